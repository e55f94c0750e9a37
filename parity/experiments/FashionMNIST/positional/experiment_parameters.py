"""Positional codes on Fashion-MNIST, with milder augmentation than on MNIST; not run yet: the data is not at hand.

    python train.py --dataset FashionMNIST --experiment_name mlp_k2_cells
    python train.py --dataset FashionMNIST --experiment_name mlp_k2_cells --print_config

All other settings are those of MNIST.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.data.augmentation import RandomAffine
from parity.experiments.recipes import cell_configs
from parity.models import MLP, PerCell
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=5000, augmentation=RandomAffine(degrees=5.0, stretch=0.1, shear=0.05, shift=(0.05, 0.05))),
    base="mlp_base",
    model=dict(network=PerCell, cell_network=MLP),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=50),
)

QUERIES = 512
"""In a batch, whatever k is."""

HIDDEN = {2: (190, 100), 3: (220, 95), 4: (180, 70), 8: (160, 65)}
"""Widths of the network in a cell, by k: at most 1.10 x the base model's cost."""

CONFIGS = cell_configs(DEFAULTS, HIDDEN, QUERIES)
