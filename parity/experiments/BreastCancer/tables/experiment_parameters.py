"""Codes for rows of a table, scikit-learn's breast cancer data: 30 features, 455 rows to train with, 114 to test.

    python train.py --dataset BreastCancer --experiment_name 'mlp_*'      4 s each on 1 core
    python train.py --dataset BreastCancer --experiment_name mlp_k4_packed_kl --print_config

A narrow network for each row that is packed whole, and one for each cell of a learned projection; addition beside them.
Parity models have at most 1.10 x the base model's multiply-adds. A_a is 0.956; at k = 4, A_d is 0.938 with ``add``,
0.955 with ``packed_kl`` and 0.964 with ``projection_kl`` (one seed; an interval is 3 points wide to either side).
docs/codes.md has what these codes lose on tables, over three seeds.
"""

from functools import partial

from torch import nn

from parity.coders import (
    Learned,
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    Orthogonal,
    PackedEncoder,
    PositionalDecoder,
)
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, packed_configs, parity_configs, towards_base_model
from parity.models import MLP, PackedStudents, PerCell
from parity.training import (
    AdamW,
    CrossEntropy,
    LabelReconstructionLoss,
    OneCycle,
    ParityTargetLoss,
    parities_alone,
)

DEFAULTS = dict(
    data=dict(batch_size=32),
    base="mlp_base",
    model=dict(network=MLP, hidden=(64, 32)),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=AdamW(lr=1e-2, weight_decay=1e-2),
    schedule=OneCycle(),
    trainer=dict(max_epochs=60),
)

QUERIES = 64
"""In a batch, whatever k is."""

PACKED = update_config(
    DEFAULTS,
    dict(
        model=dict(network=PackedStudents, student=MLP),
        code=dict(encoder=PackedEncoder, decoder=PositionalDecoder),
        loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    ),
)

PROJECTION = update_config(
    DEFAULTS,
    dict(
        model=dict(network=PerCell, cell_network=MLP),
        code=dict(decoder=PositionalDecoder),
        trained=("encoder", "parity_models"),
        **towards_base_model(temperature=2.0),
    ),
)

PROJECTED = partial(LearnedGridEncoder, resampling=Learned(Orthogonal()))

CONFIGS = {
    "mlp_base": base_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(), trainer=dict(max_epochs=30))),
    **parity_configs("mlp", DEFAULTS, dict(add=(LinearEncoder, (2, 4)))),
    **packed_configs("mlp", PACKED, {2: dict(hidden=(42, 21)), 4: dict(hidden=(25, 12))}, QUERIES, temperature=2.0),
    **{
        name: update_config(config, dict(model=dict(hidden=hidden)))
        for k, hidden in {2: (56, 28), 4: (41, 20)}.items()
        for name, config in parity_configs("mlp", PROJECTION, dict(projection_kl=(PROJECTED, (k,)))).items()
    },
}
