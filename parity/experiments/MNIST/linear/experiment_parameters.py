"""Linear codes with several parity models, by the original recipe.

    python train.py --dataset MNIST --experiment_name 'mlp_*_linear_*'      1 s an epoch on 1 core
    python train.py --dataset MNIST --experiment_name mlp_k2_linear_r2 --print_config

Test A_d (one prediction missing, all r parity outputs there) of the best checkpoint after 40 of the 500 epochs, with
the published base model (--base_weights, A_a 0.9793), one seed:

    mlp_k2_linear_r2  A_d 0.9679
    mlp_k3_linear_r2  A_d 0.8881
    mlp_k4_linear_r2  A_d 0.7999    mlp_k4_linear_r3  A_d 0.8004

The others were not run.
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
