"""The original recipe on MNIST.

TODO
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LinearDecoder, LinearEncoder
from parity.experiments.utils import update_config
from parity.models import MLP, NormalLinear
from parity.training import Adam, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=MLP, hidden=(200, 100)),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=500),
)

PARITY = update_config(
    DEFAULTS,
    dict(
        base="mlp_base",
        code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
        parity_init=NormalLinear(std=0.01),
        loss=ParityTargetLoss(nn.MSELoss()),
    ),
)

ENCODERS = dict(add=LinearEncoder, concat=ConcatenationEncoder)

CONFIGS = {
    "mlp_base": update_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=20))),
} | {
    f"mlp_k{k}_{code}": update_config(
        PARITY, dict(code=dict(k=k, encoder=ENCODERS[code]), data=dict(batch_size=64 if k == 2 else 32))
    )
    for code, ks in (("add", (2, 3, 4)), ("concat", (2, 4)))
    for k in ks
}
