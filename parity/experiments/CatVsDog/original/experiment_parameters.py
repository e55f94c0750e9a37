"""The original recipe on photographs of cats and dogs at 224 pixels, with torchvision's ResNet-18; not run yet.

    python train.py --dataset CatVsDog --experiment_name 'resnet18_k2_*'
    python train.py --dataset CatVsDog --experiment_name resnet18_k2_add --print_config

Kosaian, Rashmi, Venkataraman (SOSP 2019) report 4.30 points lost when rebuilt, with k = 2 and add.
"""

import torchvision
from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.recipes import base_config, parity_configs
from parity.models import InOrder, NormalLinear, XavierConvolution, torchvision_model
from parity.training import SGD, Adam, OneCycle, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=None, num_workers=None),
    model=dict(network=torchvision_model, constructor=torchvision.models.resnet18),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

BASE = dict(
    loss=nn.CrossEntropyLoss(),
    optimizer=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
    schedule=OneCycle(),
    trainer=dict(max_epochs=100),
)

CONFIGS = {"resnet18_base": base_config(DEFAULTS, BASE), **parity_configs("resnet18", DEFAULTS)}
