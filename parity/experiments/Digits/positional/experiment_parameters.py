"""Positional codes on the embedded digits: cells of 8 x 4 or 4 x 4 pixels.

python train.py --dataset Digits --experiment_name 'mlp_k*_cells*'
"""

from parity.data.augmentation import RandomAffine
from parity.experiments.Digits.original.experiment_parameters import DIGITS
from parity.experiments.MNIST.positional import experiment_parameters as mnist
from parity.experiments.utils import update_config

HIDDEN = {2: (140, 90), 3: (120, 80), 4: (100, 65)}
"""Widths of the network in a cell, by k: at most 1.10 x the base model's cost."""

QUERIES = 64
"""In a batch."""

AUGMENTATION = RandomAffine(degrees=10.0, stretch=0.1, shear=0.1, shift=(0.06, 0.06))

CONFIGS = {
    name: update_config(
        update_config(config, DIGITS),
        dict(
            model=dict(hidden=HIDDEN[config["code"]["k"]]),
            data=dict(batch_size=QUERIES // config["code"]["k"], augmentation=AUGMENTATION),
        ),
    )
    for name, config in mnist.CONFIGS.items()
    if config["code"]["k"] in HIDDEN
}
