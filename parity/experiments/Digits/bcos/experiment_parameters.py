"""B-cos networks on the embedded digits, and codes for them: predictions that show what they were made of.

    python train.py --dataset Digits --experiment_name 'bcos_*'      half a minute each on 1 core
    python train.py --dataset Digits --experiment_name bcos_k2_add --print_config
    python -m parity.analyses.localisation --dataset Digits --experiment_name bcos_base --analysis_config 20_3x3

A small form of three blocks. They need the extra ``parity[explain]``. ``resnet_*`` is an ordinary network of the same
shape and recipe, for its explanations to be compared with. A_a is 0.983; A_d is 0.894 / 0.661 with ``add``, 0.978 /
0.883 with ``concat`` and 0.992 / 0.969 with ``cells_kl`` at k = 2 / 4 (one seed).
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LearnedGridEncoder, LinearDecoder, LinearEncoder, PositionalDecoder
from parity.data.augmentation import RandomAffine
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, in_cells, parity_configs, towards_base_model
from parity.models import BcosResNet, FromBaseModel, ResNet
from parity.training import (
    AdamW,
    CrossEntropy,
    LabelReconstructionLoss,
    MeanOver,
    OneCycle,
    ParityTargetLoss,
    UniformOffLabels,
    parities_alone,
)

AUGMENTATION = RandomAffine(degrees=10.0, stretch=0.1, shear=0.1, shift=(0.06, 0.06))

DEFAULTS = dict(
    data=dict(num_validation=240, augmentation=AUGMENTATION),
    model=dict(network=BcosResNet, blocks=(1, 1, 1), width=16),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=100),
)

CELLS = dict(
    code=dict(decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(UniformOffLabels(), parities_alone),
)

ORDINARY = dict(network=ResNet, blocks=(1, 1, 1), widths=(16, 32, 64))
"""The same network with ordinary layers."""

BATCHES = {2: 32, 4: 16}
"""Groups in a batch, by k."""

SUMS = dict(add=(LinearEncoder, (2, 4)), concat=(ConcatenationEncoder, (2, 4)))
GRIDS = dict(cells=(LearnedGridEncoder, (2, 4)))
GRIDS_KL = dict(cells_kl=(LearnedGridEncoder, (2, 4)))

BASE = dict(data=dict(batch_size=64), loss=MeanOver(UniformOffLabels()), trainer=dict(max_epochs=50))
BCOS_CELLS = update_config(in_cells(DEFAULTS), CELLS)
RESNET = {**DEFAULTS, "model": ORDINARY}
RESNET_CELLS = {
    **update_config(in_cells(RESNET), CELLS),
    "loss": LabelReconstructionLoss(CrossEntropy(), parities_alone),
}

CONFIGS = {
    "bcos_base": base_config(DEFAULTS, BASE),
    **parity_configs("bcos", DEFAULTS, SUMS, BATCHES),
    **parity_configs("bcos", BCOS_CELLS, GRIDS, BATCHES),
    **parity_configs("bcos", update_config(BCOS_CELLS, towards_base_model(temperature=1.0)), GRIDS_KL, BATCHES),
    "resnet_base": base_config(RESNET, {**BASE, "loss": nn.CrossEntropyLoss()}),
    **parity_configs("resnet", RESNET, SUMS, BATCHES),
    **parity_configs("resnet", RESNET_CELLS, GRIDS, BATCHES),
    **parity_configs("resnet", update_config(RESNET_CELLS, towards_base_model(temperature=1.0)), GRIDS_KL, BATCHES),
}
