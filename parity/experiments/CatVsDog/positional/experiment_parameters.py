"""Positional codes on photographs of cats and dogs, as on CIFAR-10; not run yet.

    python train.py --dataset CatVsDog --experiment_name small_resnet_k2_cells
    python train.py --dataset CatVsDog --experiment_name small_resnet_k2_cells --print_config

The parity models are the base networks, started from the base models.
"""

import torchvision

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.experiments.config import update_config
from parity.experiments.recipes import CELLS, CELLS_KL, parity_configs, towards_base_model
from parity.models import FromBaseModel, PerCell, ResNet, torchvision_model
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=None, num_workers=None, size=64, resize=73),
    model=dict(network=PerCell, cell_network=ResNet, blocks=(1, 1, 1, 1), widths=(24, 48, 96, 192)),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=30),
)

RESNET18 = {
    **DEFAULTS,
    "data": dict(num_validation=None, num_workers=None),
    "model": dict(network=PerCell, cell_network=torchvision_model, constructor=torchvision.models.resnet18),
    "optimizer": SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
    "trainer": dict(max_epochs=1000),
}
"""At 224 pixels, for as many epochs as the original's parity models."""

CONFIGS = {
    **parity_configs("small_resnet", DEFAULTS, CELLS),
    **parity_configs("small_resnet", update_config(DEFAULTS, towards_base_model(temperature=2.0)), CELLS_KL),
    **parity_configs("resnet18", RESNET18, CELLS),
}
