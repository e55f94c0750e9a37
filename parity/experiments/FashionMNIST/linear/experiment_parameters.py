"""Linear codes with several parity models, by the original recipe; not run yet: the data is not at hand.

    python train.py --dataset FashionMNIST --experiment_name mlp_k2_linear_r2
    python train.py --dataset FashionMNIST --experiment_name mlp_k2_linear_r2 --print_config

All settings are those of MNIST.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.recipes import linear_configs
from parity.models import MLP, InOrder, NormalLinear, XavierConvolution
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(num_validation=5000),
    base="mlp_base",
    model=dict(network=MLP, hidden=(200, 100)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=500),
)

CONFIGS = linear_configs(DEFAULTS)
