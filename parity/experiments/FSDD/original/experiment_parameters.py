"""The original recipe on the Free Spoken Digit Dataset: VGG-11 and LeNet on log-spectrograms.

    python train.py --dataset FSDD --experiment_name 'lenet_*'
    python train.py --dataset FSDD --experiment_name lenet_k2_add --print_config

lenet_base: A_a 0.9600 on 300 test clips after 8 epochs; lenet_k2_add: A_d 0.9100, reconstruction accuracy 0.9300 after
40 epochs of 35 s on 1 core (benchmarks/real_data.py, one seed). The others were not run.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs
from parity.models import VGG11, InOrder, LeNet, NormalLinear, XavierConvolution
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=None),
    model=dict(network=VGG11),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=40),
)

BASE = dict(loss=nn.CrossEntropyLoss(), optimizer=Adam(lr=1e-3), trainer=dict(max_epochs=8))

LENET = update_config(DEFAULTS, dict(model=dict(network=LeNet)))

ADD = dict(add=(LinearEncoder, (2, 3, 4)))

CONFIGS = {
    "vgg11_base": base_config(DEFAULTS, BASE),
    **parity_configs("vgg11", DEFAULTS, ADD),
    "lenet_base": base_config(LENET, BASE),
    **parity_configs("lenet", LENET, ADD),
}
