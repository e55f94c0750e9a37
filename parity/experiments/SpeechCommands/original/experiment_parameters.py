"""The original recipe on Speech Commands v0.01 (30 words): VGG-11 and LeNet on log-spectrograms.

    python train.py --dataset SpeechCommands --experiment_name vgg11_k2_add
    python train.py --dataset SpeechCommands --experiment_name vgg11_k2_add --print_config

Not run yet: the data is not at hand. Kosaian, Rashmi, Venkataraman (SOSP 2019) report A_d 0.915 / 0.839 / 0.756 for
k = 2 / 3 / 4, with a base model of about A_a 0.946.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs
from parity.models import VGG11, InOrder, LeNet, NormalLinear, XavierConvolution
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=None, version="0.01"),
    model=dict(network=VGG11),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

BASE = dict(loss=nn.CrossEntropyLoss(), optimizer=Adam(lr=1e-3), trainer=dict(max_epochs=30))

LENET = update_config(DEFAULTS, dict(model=dict(network=LeNet)))

ADD = dict(add=(LinearEncoder, (2, 3, 4)))

CONFIGS = {
    "vgg11_base": base_config(DEFAULTS, BASE),
    **parity_configs("vgg11", DEFAULTS, ADD),
    "lenet_base": base_config(LENET, BASE),
    **parity_configs("lenet", LENET, ADD),
}
