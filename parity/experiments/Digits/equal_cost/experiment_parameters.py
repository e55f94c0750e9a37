"""What else the same extra worker could run on the embedded digits: packed students, and k queries in superposition.

    python train.py --dataset Digits --experiment_name 'mlp_k*_packed*'      half a minute each on 1 core
    python train.py --dataset Digits --experiment_name mlp_k2_packed_kl --print_config

Each parity model has at most 1.10 x the base model's multiply-adds for a query, all k predictions together, and the
recipe of the positional codes: epochs, augmentation, optimiser. All start from scratch but ``packed_pruned_kl``, from
the base model's channels, and ``revmux_kl``, in which the base model stays as it is. ``packed*``, ``mimo_kl`` and
``mimonet_kl`` are sent k whole queries, k times the bytes; ``datamux_kl`` and ``revmux_kl`` one.
The base model is trained as they are, so that none of them is right more often for its augmentation alone: A_a 0.9833;
mlp_k2_packed_pruned_kl A_d 0.9870, mlp_k4_packed_pruned_kl A_d 0.9796 (mean of three seeds), mlp_k8_packed_pruned_kl
A_d 0.9833 (one). All of docs/equal_cost.md takes half an hour on 1 core.
"""

from torch import nn

from parity.coders import HadamardSumEncoder, LearnedGridEncoder, PackedEncoder, PositionalDecoder, StackingEncoder
from parity.data.augmentation import RandomAffine
from parity.experiments.recipes import Shapes, base_config, packed_configs, sum_configs, superposition_configs
from parity.models import MLP, Demultiplexed, Downsampled, FrozenBaseModel, MIMONet, PackedStudents, RevMUX
from parity.models.packed import linear
from parity.models.revmux import bottleneck
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=240, augmentation=RandomAffine(degrees=10.0, stretch=0.1, shear=0.1, shift=(0.06, 0.06))),
    base="mlp_augmented_base",
    model=dict(network=PackedStudents, student=MLP),
    code=dict(r=1, encoder=PackedEncoder, decoder=PositionalDecoder),
    trained=("parity_models",),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=200),
)

QUERIES = 64
"""In a batch, whatever k is."""

STUDENTS = {2: dict(hidden=(110, 95)), 4: dict(hidden=(72, 55)), 8: dict(hidden=(42, 34))}

OTHERS: Shapes = dict(
    deep=({2: dict(hidden=(90, 75, 70)), 4: dict(hidden=(60, 50, 40))}, None),
    coarse=(
        {
            k: dict(student=Downsampled, inner=MLP, side=4, hidden=hidden)
            for k, hidden in {2: (155, 93), 4: (100, 68)}.items()
        },
        None,
    ),
)
"""Students with one more layer, and such as see a smaller image."""

SUPERPOSITION = dict(
    mimo=(
        StackingEncoder,
        {
            2: dict(network=MLP, hidden=(150, 105)),
            4: dict(network=MLP, hidden=(93, 98)),
            8: dict(network=MLP, hidden=(54, 70)),
        },
    ),
    mimonet=(
        PackedEncoder,
        {
            2: dict(network=MIMONet, stem=linear, channels=60, trunk=MLP, features=48, hidden=(120,)),
            4: dict(network=MIMONet, stem=linear, channels=48, trunk=MLP, features=32, hidden=(100,)),
            8: dict(network=MIMONet, stem=linear, channels=32, trunk=MLP, features=24, hidden=(80,)),
        },
    ),
    datamux=(
        HadamardSumEncoder,
        {
            k: dict(network=Demultiplexed, trunk=MLP, features=100, hidden=(200,), index_hidden=hidden)
            for k, hidden in {2: 30, 4: 30, 8: 24}.items()
        },
    ),
)
"""Encoder, and by k the settings of a network that makes all k predictions."""

REVMUX = dict(
    revmux=(
        LearnedGridEncoder,
        {
            k: dict(
                network=RevMUX, frozen=MLP, hidden=(200,), features=100, adapter=bottleneck, width=12, feature_width=8
            )
            for k in (2, 4)
        },
    )
)
"""The base model up to its last hidden layer, frozen, between reversible adapters."""

FROZEN = {**DEFAULTS, "trained": ("encoder", "parity_models"), "parity_start": FrozenBaseModel()}

BASE = dict(data=dict(batch_size=64), model=dict(network=MLP, hidden=(200, 100)), loss=nn.CrossEntropyLoss())

CONFIGS = {
    "mlp_augmented_base": base_config(DEFAULTS, BASE),
    **sum_configs("mlp", DEFAULTS, dict(network=MLP, hidden=(200, 100)), (2, 4), QUERIES),
    **packed_configs("mlp", DEFAULTS, STUDENTS, QUERIES, temperature=4.0, others=OTHERS),
    **superposition_configs("mlp", DEFAULTS, SUPERPOSITION, QUERIES, temperature=4.0),
    **superposition_configs("mlp", FROZEN, REVMUX, QUERIES, temperature=4.0),
}
