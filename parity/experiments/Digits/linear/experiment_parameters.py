"""Linear codes with several parity models on the embedded digits.

    python train.py --dataset Digits --experiment_name 'mlp_*_linear_*'     10 s each on 1 core
    python train.py --dataset Digits --experiment_name mlp_k2_linear_r2 --print_config

Test A_d (one prediction missing, all r parity outputs there) of the best checkpoint, seed 0:

    mlp_k2_linear_r2  A_d 0.9444    mlp_k2_linear_r3  A_d 0.9583
    mlp_k3_linear_r2  A_d 0.9556    mlp_k3_linear_r3  A_d 0.9583
    mlp_k4_linear_r2  A_d 0.8833    mlp_k4_linear_r3  A_d 0.9111
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.recipes import linear_configs
from parity.models import MLP, InOrder, NormalLinear, XavierConvolution
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=32, num_validation=240),
    base="mlp_base",
    model=dict(network=MLP, hidden=(200, 100)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=200),
)

CONFIGS = linear_configs(DEFAULTS, batch_sizes={2: 32, 3: 32, 4: 32})
