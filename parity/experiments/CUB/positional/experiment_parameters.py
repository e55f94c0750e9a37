"""Positional codes on CUB-200-2011, as on DigitBoxes; not run: the images are not at hand.

    python train.py --dataset CUB --experiment_name resnet18_k2_cells
    python train.py --dataset CUB --experiment_name resnet18_k2_cells --print_config

The parity model is the base network, started from the base model.
"""

from torchvision.models import resnet18

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.models import FromBaseModel, PerCell, torchvision_model
from parity.training import Adam, ReconstructionLoss, SquaredError, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=64),
    base="resnet18_base",
    model=dict(network=PerCell, cell_network=torchvision_model, constructor=resnet18),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(k=2, r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=ReconstructionLoss(SquaredError(), parities_alone),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

CONFIGS = {"resnet18_k2_cells": DEFAULTS}
