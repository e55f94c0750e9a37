"""The original recipe on CIFAR-100, with its "ResNet-152" of 3, 8, 36 and 3 basic blocks; not run yet.

    python train.py --dataset CIFAR100 --experiment_name 'resnet152_k2_*'
    python train.py --dataset CIFAR100 --experiment_name resnet152_k2_add --print_config

Kosaian, Rashmi, Venkataraman (SOSP 2019) report 6.40 points lost when rebuilt, with k = 2 and add.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.recipes import base_config, parity_configs
from parity.models import InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import SGD, Adam, OneCycle, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=ResNet, blocks=(3, 8, 36, 3)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

BASE = dict(
    data=dict(batch_size=128),
    loss=nn.CrossEntropyLoss(),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
    schedule=OneCycle(),
    trainer=dict(max_epochs=200),
)

CONFIGS = {"resnet152_base": base_config(DEFAULTS, BASE), **parity_configs("resnet152", DEFAULTS)}
