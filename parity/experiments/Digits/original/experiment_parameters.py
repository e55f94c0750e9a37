"""The original codes on the embedded digits: 8 x 8 pixels, 1,437 to train with, 360 to test.

    python train.py --dataset Digits --experiment_name 'mlp_*'      10 s each on 1 core
    python train.py --dataset Digits --experiment_name mlp_k2_add --print_config

Test accuracy of the best checkpoint, seed 0; with 360 queries one of them is 0.3 points:

    mlp_base        A_a 0.9611
    mlp_k2_add      A_d 0.9500      mlp_k2_concat   A_d 0.8667
    mlp_k3_add      A_d 0.8472
    mlp_k4_add      A_d 0.7417      mlp_k4_concat   A_d 0.2389: four digits of 4 x 4 pixels are too much to ask

The learned codes (mlp_*_learned*): not run yet.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder, MLPEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import LEARNED, ORIGINAL_CODES, base_config, parity_configs
from parity.models import MLP, InOrder, NormalLinear, XavierConvolution
from parity.training import (
    Adam,
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    ReconstructionLoss,
)

DEFAULTS = dict(
    data=dict(batch_size=32, num_validation=240),
    base="mlp_base",
    model=dict(network=MLP, hidden=(200, 100)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=200),
)

BATCHES = {2: 32, 3: 32, 4: 32}
"""Groups in a batch, by k."""

ENCODER = (MLPEncoder, (2, 3, 4))
LEARNED_MLP = update_config(DEFAULTS, LEARNED)
LEARNED_KL = update_config(LEARNED_MLP, dict(loss=ReconstructionLoss(KLDivergence())))
LEARNED_CE = update_config(LEARNED_MLP, dict(loss=LabelReconstructionLoss(CrossEntropy())))

CONFIGS = {
    "mlp_base": base_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=50))),
    **parity_configs("mlp", DEFAULTS, ORIGINAL_CODES, BATCHES),
    **parity_configs("mlp", LEARNED_MLP, dict(learned=ENCODER), BATCHES),
    **parity_configs("mlp", LEARNED_KL, dict(learned_kl=ENCODER), BATCHES),
    **parity_configs("mlp", LEARNED_CE, dict(learned_ce=ENCODER), BATCHES),
}
