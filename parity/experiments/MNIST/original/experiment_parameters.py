"""The original recipe on MNIST: Kosaian, Rashmi, Venkataraman (SOSP 2019), as its published code trains.

    python train.py --dataset MNIST --experiment_name 'mlp_k*_add'      0.6 s an epoch at k = 2, on 2 cores

Test A_d after 40 of the 500 epochs, with the published base model (--base_weights, A_a 0.9793); add: mean of three
seeds (benchmarks/original_recipe.py), concat: best checkpoint of one seed:

    mlp_k2_add      A_d 0.904       mlp_k2_concat   A_d 0.957
    mlp_k3_add      A_d 0.782
    mlp_k4_add      A_d 0.662       mlp_k4_concat   A_d 0.746

The original reaches 0.934 / 0.854 / 0.749 with add after 500 epochs. mlp_base: A_a 0.9817 after 20 epochs, seed 0.

The learned codes (arXiv 1806.01259) train an encoder and a decoder on what is rebuilt, with the base model itself as
parity model: against its predictions by squared error, or by KL divergence (_kl), or against true labels by
cross-entropy (_ce). mlp_k2_learned: A_d 0.9765, reconstruction accuracy 0.9846 after 40 epochs of half a minute on one
core, with the published base model, one seed. The other learned ones and resnet18_* were not run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from parity.coders import ConcatenationEncoder, Encoder, LinearDecoder, LinearEncoder, MLPDecoder, MLPEncoder
from parity.experiments.config import Config, update_config
from parity.models import MLP, InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import (
    Adam,
    CrossEntropy,
    KLDivergence,
    LabelReconstructionLoss,
    ParityTargetLoss,
    ReconstructionLoss,
    SquaredError,
)

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=500),
)

BASE = update_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=20)))

ANY_PARITY = update_config(
    DEFAULTS,
    dict(
        code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
        parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
        loss=ParityTargetLoss(nn.MSELoss()),
    ),
)
"""Of any network: a config adds ``model`` and ``base``."""

LEARNED = dict(
    code=dict(decoder=MLPDecoder),
    trained=("encoder", "decoder"),
    parity_init=None,
    loss=ReconstructionLoss(SquaredError()),
)
"""What a learned encoder and decoder change."""

Codes = Mapping[str, tuple[type[Encoder], Sequence[int]]]
CODES: Codes = dict(add=(LinearEncoder, (2, 3, 4)), concat=(ConcatenationEncoder, (2, 4)))
"""Encoders and k of the codes that the original trains parity models for, by their names."""


def parity_configs(network: str, config: Config, codes: Codes = CODES) -> dict[str, dict[str, Any]]:
    """Return the configs <network>_k<k>_<code>, in batches of 64 groups for k = 2 and of 32 otherwise.

    Args:
        network: its name; the base model is <network>_base.
        config: what they have in common.
        codes: encoders and k by the codes' names.
    """
    return {
        f"{network}_k{k}_{code}": update_config(
            config,
            dict(base=f"{network}_base", code=dict(k=k, encoder=encoder), data=dict(batch_size=64 if k == 2 else 32)),
        )
        for code, (encoder, ks) in codes.items()
        for k in ks
    }


MLP_MODEL = dict(model=dict(network=MLP, hidden=(200, 100)))
RESNET18 = dict(model=dict(network=ResNet, blocks=(2, 2, 2)))  # of images 1 x 28 x 28: without the last stage

PARITY = update_config(ANY_PARITY, dict(base="mlp_base", **MLP_MODEL))

WITH_PARITY_MODELS = {
    "mlp_base": update_config(BASE, MLP_MODEL),
    **parity_configs("mlp", PARITY),
    "resnet18_base": update_config(BASE, RESNET18),
    **parity_configs("resnet18", update_config(ANY_PARITY, RESNET18)),
}

LEARNED_MLP, MLP_ENCODER = update_config(PARITY, LEARNED), (MLPEncoder, (2, 3, 4))
AGAINST_PROBABILITIES = update_config(LEARNED_MLP, dict(loss=ReconstructionLoss(KLDivergence())))
AGAINST_LABELS = update_config(LEARNED_MLP, dict(loss=LabelReconstructionLoss(CrossEntropy())))

CONFIGS = {
    **WITH_PARITY_MODELS,
    **parity_configs("mlp", LEARNED_MLP, dict(learned=MLP_ENCODER)),
    **parity_configs("mlp", AGAINST_PROBABILITIES, dict(learned_kl=MLP_ENCODER)),
    **parity_configs("mlp", AGAINST_LABELS, dict(learned_ce=MLP_ENCODER)),
}
