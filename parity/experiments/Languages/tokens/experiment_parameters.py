"""Codes for sequences of ids: the language of a message by its characters, with a small transformer.

    python train.py --dataset Languages --experiment_name 'transformer_*'      15 s each on 1 core
    python train.py --dataset Languages --experiment_name transformer_k2_tokens --print_config

The messages come with the package sphinx, of the extra 'docs'. A parity query is k shortened sequences, and a copy of
the base model, from whose weights it starts, predicts for each. A_a is 0.678; A_d is 0.655 at k = 2 and 0.523 at k = 4,
whose cells are a quarter of a short message (one seed).
"""

from torch import nn

from parity.coders import PositionalDecoder, TokenCellsEncoder
from parity.data.languages import LanguagesDataModule
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, parity_configs, towards_base_model
from parity.models import FromBaseModel, PerCell, TextTransformer
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=32),
    base="transformer_base",
    model=dict(
        network=PerCell, cell_network=TextTransformer, vocabulary=LanguagesDataModule.VOCABULARY, width=32, blocks=1
    ),
    parity_start=FromBaseModel(),
    code=dict(k=2, r=1, encoder=TokenCellsEncoder, decoder=PositionalDecoder),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=2e-3, weight_decay=1e-2),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

BASE = update_config(
    DEFAULTS,
    dict(
        loss=nn.CrossEntropyLoss(),
        model=dict(network=TextTransformer, vocabulary=LanguagesDataModule.VOCABULARY, width=32, blocks=1),
    ),
)

CODES = dict(tokens=(TokenCellsEncoder, (2, 4)))
CODES_KL = dict(tokens_kl=CODES["tokens"])

CONFIGS = {
    "transformer_base": base_config(BASE, dict(data=dict(batch_size=64))),
    **parity_configs("transformer", DEFAULTS, CODES),
    **parity_configs("transformer", update_config(DEFAULTS, towards_base_model(temperature=2.0)), CODES_KL),
}
