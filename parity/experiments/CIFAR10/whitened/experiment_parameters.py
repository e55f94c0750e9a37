"""A stronger network on CIFAR-10 for minutes on a CPU, its codes, and what else an extra worker could run.

    python train.py --dataset CIFAR10 --experiment_name whitened_base
    python train.py --dataset CIFAR10 --experiment_name whitened_k4_cells_kl --print_config

Jordan's network (arXiv 2404.00498): a whitened first layer, identities to start from, label smoothing, bfloat16. What
else is trained has its epochs and augmentation, and at most 1.10 x its multiply-adds for a query, all k predictions
together; ``packed*`` and ``mimo_kl`` are sent k whole queries. 10 epochs, a quarter of an hour each on 1 core. Test
accuracy on the JPEG version of the data, one seed (benchmarks/compare_all.py): A_a 0.8868; whitened_k4_cells_kl
A_d 0.8366, whitened_k4_packed_pruned_kl A_d 0.8751. What docs/equal_cost.md does not have was not run.
"""

from torch import nn

from parity.coders import (
    LearnedGridEncoder,
    LinearDecoder,
    LinearEncoder,
    PackedEncoder,
    PositionalDecoder,
    StackingEncoder,
)
from parity.data.augmentation import RandomCropAndFlip
from parity.experiments.config import update_config
from parity.experiments.recipes import (
    Shapes,
    base_config,
    in_cells,
    packed_configs,
    parity_configs,
    superposition_configs,
    towards_base_model,
)
from parity.models import Downsampled, FromBaseModel, FrozenBaseModel, PackedStudents, RevMUX, WhitenedConvNet
from parity.models.revmux import convolutions
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, ParityTargetLoss, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=512, num_validation=5000, augmentation=RandomCropAndFlip(padding=2)),
    base="whitened_base",
    model=dict(network=WhitenedConvNet),
    parity_init=None,
    code=dict(r=1, encoder=PackedEncoder, decoder=PositionalDecoder),
    trained=("parity_models",),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.5, momentum=0.9, weight_decay=1.3e-3, nesterov=True),
    schedule=OneCycle(warm_up=0.2),
    trainer=dict(max_epochs=10, precision="bf16-mixed"),
)

QUERIES = 512
"""In a batch, whatever k is."""

BATCHES = {k: QUERIES // k for k in (2, 4)}

CELLS = {
    **in_cells(DEFAULTS),
    "trained": ("encoder", "parity_models"),
    "parity_start": FromBaseModel(),
}
CELLS_KL = update_config(CELLS, towards_base_model(temperature=2.0))

PACKED = {**DEFAULTS, "model": dict(network=PackedStudents, student=WhitenedConvNet)}
STUDENTS = {2: dict(widths=(48, 180, 184)), 4: dict(widths=(32, 128, 112))}

OTHERS: Shapes = dict(
    coarse=(
        {k: dict(student=Downsampled, inner=WhitenedConvNet, side=side) for k, side in {2: 24, 4: 16}.items()},
        FromBaseModel(),
    )
)
"""The base network, started from the base model, for a smaller image."""

WIDTHS = {2: (60, 256, 256), 4: (48, 232, 240)}
MIMO = dict(mimo=(StackingEncoder, {k: dict(network=WhitenedConvNet, widths=widths) for k, widths in WIDTHS.items()}))
"""Encoder, and by k the settings of a network that makes all k predictions."""

REVMUX = dict(
    revmux=(
        LearnedGridEncoder,
        {
            k: dict(
                network=RevMUX, frozen=WhitenedConvNet, features=256, adapter=convolutions, width=48, feature_width=32
            )
            for k in (2, 4)
        },
    )
)
"""The base model up to its last layer, frozen, between reversible adapters."""

SUM = dict(
    parity_start=FromBaseModel(),
    code=dict(decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
)

FROZEN = {**DEFAULTS, "trained": ("encoder", "parity_models"), "parity_start": FrozenBaseModel()}

CONFIGS = {
    "whitened_base": base_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(label_smoothing=0.2))),
    **parity_configs("whitened", update_config(DEFAULTS, SUM), dict(add=(LinearEncoder, (2, 4))), BATCHES),
    **parity_configs("whitened", CELLS, dict(cells=(LearnedGridEncoder, (2, 4))), BATCHES),
    **parity_configs("whitened", CELLS_KL, dict(cells_kl=(LearnedGridEncoder, (2, 4))), BATCHES),
    **packed_configs("whitened", PACKED, STUDENTS, QUERIES, temperature=2.0, others=OTHERS),
    **superposition_configs("whitened", DEFAULTS, MIMO, QUERIES, temperature=2.0),
    **superposition_configs("whitened", FROZEN, REVMUX, QUERIES, temperature=2.0),
}
