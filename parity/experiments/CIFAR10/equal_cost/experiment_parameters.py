"""What else the same extra worker could run beside a small ResNet on CIFAR-10: packed students, and superposition.

    python train.py --dataset CIFAR10 --experiment_name 'small_resnet_k*_packed*' --set trainer.precision=bf16-mixed
    python train.py --dataset CIFAR10 --experiment_name small_resnet_k2_packed_kl --print_config

Each parity model has at most 1.10 x the base model's multiply-adds for a query, all k predictions together, and the
recipe of the positional codes. All start from scratch but ``packed_pruned_kl``, from
the base model's channels, and ``revmux_kl``, in which the base model stays as it is. 6 epochs, 5 to 7 minutes each on
1 core. Test accuracy, one seed (benchmarks/compare_all.py): A_a 0.7525; small_resnet_k2_packed_pruned_kl A_d 0.7452,
small_resnet_k4_packed_pruned_kl A_d 0.7280. What docs/equal_cost.md does not have was not run.
"""

from parity.coders import HadamardSumEncoder, LearnedGridEncoder, PackedEncoder, PositionalDecoder, StackingEncoder
from parity.experiments.recipes import Shapes, packed_configs, superposition_configs
from parity.models import (
    Demultiplexed,
    Downsampled,
    FromBaseModel,
    FrozenBaseModel,
    MIMONet,
    PackedStudents,
    ResNet,
    RevMUX,
)
from parity.models.packed import convolution
from parity.models.revmux import convolutions
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=5000),
    base="small_resnet_base",
    model=dict(network=PackedStudents, student=ResNet, blocks=(1, 1, 1)),
    parity_init=None,
    code=dict(r=1, encoder=PackedEncoder, decoder=PositionalDecoder),
    trained=("parity_models",),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

QUERIES = 128
"""In a batch, whatever k is."""

STUDENTS = {k: dict(widths=(width, 2 * width, 4 * width)) for k, width in {2: 17, 4: 12}.items()}


def _widths(width: int) -> dict[str, tuple[int, ...]]:
    return dict(blocks=(1, 1, 1), widths=(width, 2 * width, 4 * width))


WHOLE = dict(blocks=(1, 1, 1), widths=(24, 48, 96))
OTHERS: Shapes = dict(
    deep=({2: dict(blocks=(2, 2, 2), widths=(12, 24, 48)), 4: dict(blocks=(2, 2, 2), widths=(8, 16, 32))}, None),
    coarse=(
        {k: dict(student=Downsampled, inner=ResNet, side=side, **WHOLE) for k, side in {2: 22, 4: 16}.items()},
        FromBaseModel(),
    ),
)
"""Students of twice as many blocks; and the base network, started from the base model, for a smaller image."""

SUPERPOSITION = dict(
    mimo=(StackingEncoder, {k: dict(network=ResNet, **_widths(24)) for k in (2, 4)}),
    mimonet=(
        PackedEncoder,
        {
            k: dict(network=MIMONet, stem=convolution, channels=width, trunk=ResNet, features=64, **_widths(width))
            for k, width in {2: 22, 4: 21}.items()
        },
    ),
    datamux=(
        HadamardSumEncoder,
        {k: dict(network=Demultiplexed, trunk=ResNet, features=96, index_hidden=64, **_widths(25)) for k in (2, 4)},
    ),
)
"""Encoder, and by k the settings of a network that makes all k predictions."""

REVMUX = dict(
    revmux=(
        LearnedGridEncoder,
        {
            k: dict(
                network=RevMUX,
                frozen=ResNet,
                features=96,
                adapter=convolutions,
                width=48,
                feature_width=16,
                **_widths(24),
            )
            for k in (2, 4)
        },
    )
)
"""The base model up to its last layer, frozen, between reversible adapters."""

FROZEN = {**DEFAULTS, "trained": ("encoder", "parity_models"), "parity_start": FrozenBaseModel()}

CONFIGS = {
    **packed_configs("small_resnet", DEFAULTS, STUDENTS, QUERIES, temperature=2.0, others=OTHERS),
    **superposition_configs("small_resnet", DEFAULTS, SUPERPOSITION, QUERIES, temperature=2.0),
    **superposition_configs("small_resnet", FROZEN, REVMUX, QUERIES, temperature=2.0),
}
