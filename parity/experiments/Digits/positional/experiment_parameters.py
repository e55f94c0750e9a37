"""Positional codes on the embedded digits: cells of 8 x 4, 4 x 4 or, at k = 8, 2 x 2 pixels.

    python train.py --dataset Digits --experiment_name 'mlp_k*_cells*'     half a minute each on 1 core
    python train.py --dataset Digits --experiment_name mlp_k2_cells --print_config

Test accuracy (A_a 0.9611), any number of predictions missing, mean of three seeds (benchmarks/better_codes.py); with
360 queries one of them is 0.3 points. The others were not run.

    mlp_k2_cells  A_d 0.9759        mlp_k2_cells_kl  A_d 0.9574, reconstruction accuracy 0.9954
    mlp_k4_cells  A_d 0.9620        mlp_k4_cells_kl  A_d 0.9315, reconstruction accuracy 0.9685
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.data.augmentation import RandomAffine
from parity.experiments.recipes import cell_configs
from parity.models import MLP, PerCell
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=240, augmentation=RandomAffine(degrees=10.0, stretch=0.1, shear=0.1, shift=(0.06, 0.06))),
    base="mlp_base",
    model=dict(network=PerCell, cell_network=MLP),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=200),
)

QUERIES = 64
"""In a batch, whatever k is."""

HIDDEN = {2: (140, 90), 3: (120, 80), 4: (100, 65), 8: (60, 62)}
"""Widths of the network in a cell, by k: at most 1.10 x the base model's cost."""

CONFIGS = cell_configs(DEFAULTS, HIDDEN, QUERIES)
