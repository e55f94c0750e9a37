"""The original recipe on MNIST: Kosaian, Rashmi, Venkataraman (SOSP 2019), as its published code trains.

    python train.py --dataset MNIST --experiment_name 'mlp_k*_add'      0.6 s an epoch at k = 2, on 2 cores
    python train.py --dataset MNIST --experiment_name mlp_k2_add --print_config

Test A_d after 40 of the 500 epochs, with the published base model (--base_weights, A_a 0.9793); add: mean of three
seeds (benchmarks/original_recipe.py), concat: best checkpoint of one seed:

    mlp_k2_add      A_d 0.9044      mlp_k2_concat   A_d 0.957
    mlp_k3_add      A_d 0.7815
    mlp_k4_add      A_d 0.6619      mlp_k4_concat   A_d 0.746

The original reaches 0.934 / 0.854 / 0.749 with add after 500 epochs. mlp_base: A_a 0.9817 after 20 epochs, seed 0.

The learned codes (arXiv 1806.01259) train an encoder and a decoder on reconstructions, with the base model itself as
parity model: against its predictions by squared error, or by KL divergence (_kl), or against true labels by
cross-entropy (_ce). mlp_k2_learned: A_d 0.9765, reconstruction accuracy 0.9846 after 40 epochs of half a minute on one
core, with the published base model, one seed. The other learned ones and resnet18_* were not run.
"""

from torch import nn

from parity.coders import LinearDecoder, LinearEncoder, MLPEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import LEARNED, base_config, parity_configs
from parity.models import MLP, InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import (
    Adam,
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    ReconstructionLoss,
)

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

ENCODER = (MLPEncoder, (2, 3, 4))
LEARNED_MLP = update_config(DEFAULTS, LEARNED)
LEARNED_KL = update_config(LEARNED_MLP, dict(loss=ReconstructionLoss(KLDivergence())))
LEARNED_CE = update_config(LEARNED_MLP, dict(loss=LabelReconstructionLoss(CrossEntropy())))

CONFIGS = {
    "mlp_base": base_config(DEFAULTS, BASE),
    **parity_configs("mlp", DEFAULTS),
    "resnet18_base": base_config(RESNET18, BASE),
    **parity_configs("resnet18", RESNET18),
    **parity_configs("mlp", LEARNED_MLP, dict(learned=ENCODER)),
    **parity_configs("mlp", LEARNED_KL, dict(learned_kl=ENCODER)),
    **parity_configs("mlp", LEARNED_CE, dict(learned_ce=ENCODER)),
}
