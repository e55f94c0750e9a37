"""Positional codes on CIFAR-100, as on CIFAR-10; not run yet.

    python train.py --dataset CIFAR100 --experiment_name resnet152_k2_cells
    python train.py --dataset CIFAR100 --experiment_name resnet152_k2_cells --print_config

Trained as its base model is, for as many epochs as the original's parity models.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.experiments.recipes import CELLS, parity_configs
from parity.models import FromBaseModel, PerCell, ResNet
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=PerCell, cell_network=ResNet, blocks=(3, 8, 36, 3)),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=OneCycle(),
    trainer=dict(max_epochs=1000),
)

CONFIGS = parity_configs("resnet152", DEFAULTS, CELLS)
