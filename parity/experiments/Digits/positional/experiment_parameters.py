"""Positional codes on the embedded digits: cells of 8 x 4 or 4 x 4 pixels.

python train.py --dataset Digits --experiment_name 'mlp_k*_cells*'
"""

from parity.data.augmentation import RandomAffine
from parity.experiments.Digits.original.experiment_parameters import DIGITS
from parity.experiments.MNIST.positional.experiment_parameters import CODES, cells
from parity.experiments.utils import update_config

HIDDEN = {2: (140, 90), 3: (120, 80), 4: (100, 65)}
"""Widths of the network in a cell, by k: at most 1.10 x the base model's cost."""

QUERIES = 64
"""In a batch."""

AUGMENTATION = RandomAffine(degrees=10.0, stretch=0.1, shear=0.1, shift=(0.06, 0.06))

CONFIGS = {
    f"mlp_k{k}_cells{f'_r{r}' if r > 1 else ''}": update_config(
        update_config(cells(k, r), DIGITS),
        dict(model=dict(hidden=HIDDEN[k]), data=dict(batch_size=QUERIES // k, augmentation=AUGMENTATION)),
    )
    for k, r in CODES
    if k in HIDDEN
}
