"""The original recipe on Fashion-MNIST, without learned codes; not run yet: the data is not at hand.

    python train.py --dataset FashionMNIST --experiment_name mlp_k2_add
    python train.py --dataset FashionMNIST --experiment_name mlp_k2_add --print_config

All settings are those of MNIST.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs
from parity.models import MLP, InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    base="mlp_base",
    model=dict(network=MLP, hidden=(200, 100)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=500),
)

BASE = dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=20))

RESNET18 = update_config(DEFAULTS, dict(model=dict(network=ResNet, blocks=(2, 2, 2))))
"""Of images 1 x 28 x 28: without the last stage."""

CONFIGS = {
    "mlp_base": base_config(DEFAULTS, BASE),
    **parity_configs("mlp", DEFAULTS),
    "resnet18_base": base_config(RESNET18, BASE),
    **parity_configs("resnet18", RESNET18),
}
