"""What else the same extra worker could run on MNIST: packed students, and k queries in superposition.

    python train.py --dataset MNIST --experiment_name 'mlp_k*_packed*' --base_weights FILE
    python train.py --dataset MNIST --experiment_name mlp_k2_packed_kl --print_config

Each parity model has at most 1.10 x the base model's multiply-adds for a query, all k predictions together, and the
recipe of the positional codes: epochs, augmentation, optimiser. All start from scratch but ``packed_pruned_kl``, from
the base model's channels, and ``revmux_kl``, in which the base model stays as it is. ``packed*``, ``mimo_kl`` and
``mimonet_kl`` are sent k whole queries, k times the bytes; ``datamux_kl`` and ``revmux_kl`` one. 1 to 2 minutes each on
1 core. Results: docs/equal_cost.md; k = 8 was not run.
"""

from parity.coders import HadamardSumEncoder, LearnedGridEncoder, PackedEncoder, PositionalDecoder, StackingEncoder
from parity.data.augmentation import RandomAffine
from parity.experiments.recipes import Shapes, packed_configs, sum_configs, superposition_configs
from parity.models import MLP, Demultiplexed, Downsampled, FrozenBaseModel, MIMONet, PackedStudents, RevMUX
from parity.models.packed import linear
from parity.models.revmux import bottleneck
from parity.training import AdamW, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=5000, augmentation=RandomAffine()),
    base="mlp_base",
    model=dict(network=PackedStudents, student=MLP),
    code=dict(r=1, encoder=PackedEncoder, decoder=PositionalDecoder),
    trained=("parity_models",),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=AdamW(lr=1e-2, weight_decay=0.0),
    schedule=OneCycle(),
    trainer=dict(max_epochs=50),
)

QUERIES = 512
"""In a batch, whatever k is."""

STUDENTS = {2: dict(hidden=(115, 60)), 4: dict(hidden=(58, 50)), 8: dict(hidden=(29, 40))}

OTHERS: Shapes = dict(
    deep=({2: dict(hidden=(104, 80, 70)), 4: dict(hidden=(52, 50, 40))}, None),
    coarse=(
        {
            k: dict(student=Downsampled, inner=MLP, side=14, hidden=hidden)
            for k, hidden in {2: (300, 110), 4: (160, 95)}.items()
        },
        None,
    ),
)
"""Students with one more layer, and such as see a smaller image."""

SUPERPOSITION = dict(
    mimo=(
        StackingEncoder,
        {
            2: dict(network=MLP, hidden=(116, 90)),
            4: dict(network=MLP, hidden=(58, 130)),
            8: dict(network=MLP, hidden=(29, 120)),
        },
    ),
    mimonet=(
        PackedEncoder,
        {
            2: dict(network=MIMONet, stem=linear, channels=92, trunk=MLP, features=64, hidden=(150,)),
            4: dict(network=MIMONet, stem=linear, channels=50, trunk=MLP, features=48, hidden=(150,)),
            8: dict(network=MIMONet, stem=linear, channels=24, trunk=MLP, features=40, hidden=(150,)),
        },
    ),
    datamux=(
        HadamardSumEncoder,
        {k: dict(network=Demultiplexed, trunk=MLP, features=100, hidden=(200,), index_hidden=64) for k in (2, 4, 8)},
    ),
)
"""Encoder, and by k the settings of a network that makes all k predictions."""

REVMUX = dict(
    revmux=(
        LearnedGridEncoder,
        {
            k: dict(
                network=RevMUX, frozen=MLP, hidden=(200,), features=100, adapter=bottleneck, width=10, feature_width=8
            )
            for k in (2, 4)
        },
    )
)
"""The base model up to its last hidden layer, frozen, between reversible adapters."""

FROZEN = {**DEFAULTS, "trained": ("encoder", "parity_models"), "parity_start": FrozenBaseModel()}

CONFIGS = {
    **sum_configs("mlp", DEFAULTS, dict(network=MLP), (2, 4), QUERIES),
    **packed_configs("mlp", DEFAULTS, STUDENTS, QUERIES, temperature=4.0, others=OTHERS),
    **superposition_configs("mlp", DEFAULTS, SUPERPOSITION, QUERIES, temperature=4.0),
    **superposition_configs("mlp", FROZEN, REVMUX, QUERIES, temperature=4.0),
}
