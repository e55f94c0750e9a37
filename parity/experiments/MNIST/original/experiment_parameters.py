"""The original recipe on MNIST: Kosaian, Rashmi, Venkataraman (SOSP 2019), as its published code trains.

    python train.py --dataset MNIST --experiment_name 'mlp_*'       0.6 s an epoch at k = 2, on 2 cores

Test A_d after 40 of the 500 epochs, with the published base model (--base_weights, A_a 0.9793); add: mean of three
seeds (benchmarks/original_recipe.py), concat: best checkpoint of one seed:

    mlp_k2_add      A_d 0.904       mlp_k2_concat   A_d 0.957
    mlp_k3_add      A_d 0.782
    mlp_k4_add      A_d 0.662       mlp_k4_concat   A_d 0.746

The original reaches 0.934 / 0.854 / 0.749 with add after 500 epochs. mlp_base: A_a 0.9817 after 20 epochs, seed 0.
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
