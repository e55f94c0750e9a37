"""Parity models for torchvision's ResNet-18 and ResNet-50 on ImageNet; not run yet.

    export IMAGENET_PATH=/where/ImageNet/is
    python train.py --dataset ImageNet --experiment_name resnet18_k2_add --base_weights resnet18-f37072fd.pth
    python train.py --dataset ImageNet --experiment_name resnet50_k2_concat --set data.steps_per_epoch=5000
    python train.py --dataset ImageNet --experiment_name resnet18_k2_add --print_config

The first takes torchvision's published weights (https://download.pytorch.org/models/) as the base model; without such a
file it is trained first, by about the recipe of torchvision's references. An epoch of a parity model is 1,000 steps,
and 10,000 images are held out of the training data for validation after each.
"""

import torchvision
from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs
from parity.models import InOrder, NormalLinear, XavierConvolution, torchvision_model
from parity.training import SGD, Adam, OneCycle, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=10_000, steps_per_epoch=1000, num_workers=None),
    model=dict(network=torchvision_model, constructor=torchvision.models.resnet18),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

BASE = dict(
    data=dict(batch_size=256, steps_per_epoch=None),
    loss=nn.CrossEntropyLoss(),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=OneCycle(warm_up=0.05),
    trainer=dict(max_epochs=90),
)

RESNET50 = update_config(DEFAULTS, dict(model=dict(constructor=torchvision.models.resnet50)))

CONFIGS = {
    "resnet18_base": base_config(DEFAULTS, BASE),
    **parity_configs("resnet18", DEFAULTS),
    "resnet50_base": base_config(RESNET50, BASE),
    **parity_configs("resnet50", RESNET50),
}
