"""B-cos networks on CIFAR-10, and codes for them: predictions that show what they were made of.

    python train.py --dataset CIFAR10 --experiment_name 'bcos_resnet_small_*'
    python train.py --dataset CIFAR10 --experiment_name 'bcos_resnet_20_*'
    python train.py --dataset CIFAR10 --experiment_name bcos_resnet_small_k2_add --print_config

``small`` is the small ResNet's shape, for a CPU: 12 epochs of the base model, 6 of a code. ``resnet_small_*`` is that
network with ordinary layers, by its own recipe, for as many epochs; ``crop2`` has the augmentation of ``small``.
``20`` is ResNet-20 as ``resnet_20_bnu-linear`` of B-cos-v2's collection norm_ablations_final has it, with max-out,
``20_nomaxout`` without it; 100 epochs, not run. B-cos networks need the extra ``parity[explain]``. On the JPEG version
of the data, one seed, in about 18 minutes on 1 core: bcos_resnet_small_base A_a 0.7934; resnet_small_base A_a 0.8139,
in about 13. Codes, 8 to 10 minutes each beside other work: bcos_resnet_small_k4_cells_kl A_d 0.7416,
resnet_small_k4_cells_kl A_d 0.7662; the others are in docs/explanations.md, and cells on true labels were not run.
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LearnedGridEncoder, LinearDecoder, LinearEncoder, PositionalDecoder
from parity.data.augmentation import RandomCropAndFlip
from parity.data.cifar import CIFAR10DataModule
from parity.experiments.config import Config, update_config
from parity.experiments.recipes import base_config, in_cells, parity_configs, towards_base_model
from parity.models import BcosResNet, FromBaseModel, ResNet
from parity.training import (
    SGD,
    Adam,
    Cosine,
    CrossEntropy,
    LabelReconstructionLoss,
    MeanOver,
    OneCycle,
    ParityTargetLoss,
    UniformOffLabels,
    parities_alone,
)

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=BcosResNet, mean=CIFAR10DataModule.MEAN, std=CIFAR10DataModule.STD),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3),
    schedule=Cosine(warm_up=0.0),
    trainer=dict(max_epochs=100),
)

SMALL = dict(
    data=dict(augmentation=RandomCropAndFlip(padding=2)),
    model=dict(blocks=(1, 1, 1), width=24, temperature=0.2),
    optimizer=Adam(lr=1e-2),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

BASE_EPOCHS = {"bcos_resnet_small": 12, "bcos_resnet_20": 100, "bcos_resnet_20_nomaxout": 100}

NETWORKS: dict[str, Config] = {
    "bcos_resnet_small": SMALL,
    "bcos_resnet_20": dict(model=dict(blocks=(3, 3, 3), width=16, max_out=2)),
    "bcos_resnet_20_nomaxout": dict(model=dict(blocks=(3, 3, 3), width=16, max_out=1)),
}

CELLS = dict(
    code=dict(decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(UniformOffLabels(), parities_alone),
)

SUMS = dict(add=(LinearEncoder, (2, 4)), concat=(ConcatenationEncoder, (2, 4)))
GRIDS = dict(cells=(LearnedGridEncoder, (2, 4)))
GRIDS_KL = dict(cells_kl=(LearnedGridEncoder, (2, 4)))

CONFIGS = {}
for network, changes in NETWORKS.items():
    config = update_config(DEFAULTS, changes)
    cells = update_config(in_cells(config), CELLS)
    towards_base = update_config(cells, towards_base_model(temperature=1.0))
    base = dict(loss=MeanOver(UniformOffLabels()), trainer=dict(max_epochs=BASE_EPOCHS[network]))
    CONFIGS[f"{network}_base"] = base_config(config, base)
    CONFIGS |= parity_configs(network, config, SUMS)
    CONFIGS |= parity_configs(network, cells, GRIDS)
    CONFIGS |= parity_configs(network, towards_base, GRIDS_KL)

RESNET = {
    **update_config(DEFAULTS, dict(optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True))),
    "model": dict(network=ResNet, blocks=(1, 1, 1), widths=(24, 48, 96)),
    "schedule": OneCycle(),
    "trainer": dict(max_epochs=6),
}
RESNET_CELLS = update_config(
    in_cells(RESNET), {**CELLS, "loss": LabelReconstructionLoss(CrossEntropy(), parities_alone)}
)

RESNET_BASE = base_config(RESNET, dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=12)))

CONFIGS |= {
    "resnet_small_base": RESNET_BASE,
    "resnet_small_crop2_base": update_config(RESNET_BASE, dict(data=SMALL["data"])),
    **parity_configs("resnet_small", RESNET, SUMS),
    **parity_configs("resnet_small", RESNET_CELLS, GRIDS),
    **parity_configs("resnet_small", update_config(RESNET_CELLS, towards_base_model(temperature=2.0)), GRIDS_KL),
}
