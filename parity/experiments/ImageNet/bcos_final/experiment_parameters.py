"""B-cos ResNets on ImageNet by the recipe of B-cos-v2's collection of the same name, and a code for one; not run yet.

    export IMAGENET_PATH=/where/ImageNet/is
    python train.py --dataset ImageNet --experiment_name bcos_resnet50_base --devices 4
    python train.py --dataset ImageNet --experiment_name bcos_resnet18_k2_concat --print_config

90 epochs of Adam with adaptive clipping, 256 images in a batch on four devices together; the rate rises for 5 epochs,
then falls along a cosine. They need the extra ``parity[explain]``.
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LinearDecoder
from parity.data.folders import ImageFolderDataModule
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs
from parity.models import BcosResNet, FromBaseModel
from parity.training import Adam, AdaptiveClipping, Cosine, MeanOver, ParityTargetLoss, UniformOffLabels

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=10_000, num_workers=None),
    model=dict(
        network=BcosResNet,
        blocks=(2, 2, 2, 2),
        width=64,
        large_images=True,
        mean=ImageFolderDataModule.MEAN,
        std=ImageFolderDataModule.STD,
    ),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=ConcatenationEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=AdaptiveClipping(Adam(lr=1e-3)),
    schedule=Cosine(warm_up=5 / 90),
    trainer=dict(max_epochs=90),
)

DEEP = update_config(DEFAULTS, dict(model=dict(blocks=(3, 4, 6, 3), bottleneck=True)))
BASE = dict(loss=MeanOver(UniformOffLabels()))

CONFIGS = {
    "bcos_resnet18_base": base_config(DEFAULTS, BASE),
    **parity_configs("bcos_resnet18", DEFAULTS, dict(concat=(ConcatenationEncoder, (2,)))),
    "bcos_resnet50_base": base_config(DEEP, BASE),
}
