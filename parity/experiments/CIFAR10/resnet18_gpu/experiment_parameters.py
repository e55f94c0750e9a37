"""ResNet-18 on CIFAR-10 in minutes on a GPU, its codes up to k = 8, and packed students at equal cost.

    benchmarks/resnet18.sh                                            all of them, beside each other
    python train.py --dataset CIFAR10 --experiment_name resnet18_gpu_base
    python train.py --dataset CIFAR10 --experiment_name resnet18_gpu_k4_cells_kl --print_config

30 epochs each, in bfloat16, of batches of 512 queries; the base model has them too, with the same augmentation. Meant
for 25 minutes on one GPU, and for a base model that is right for 95 % of test images; not run yet.
"""

from torch import nn

from parity.coders import LearnedGridEncoder, LinearDecoder, LinearEncoder, PackedEncoder, PositionalDecoder
from parity.data.augmentation import RandomCropAndFlip
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config, in_cells, packed_configs, parity_configs, towards_base_model
from parity.models import FromBaseModel, FromPrunedBaseModel, PackedStudents, ResNet
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, ParityTargetLoss, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=512, num_validation=5000, augmentation=RandomCropAndFlip()),
    base="resnet18_gpu_base",
    model=dict(network=ResNet, blocks=(2, 2, 2, 2)),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=SGD(lr=0.4, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=30, precision="bf16-mixed"),
)

QUERIES = 512
"""In a batch, whatever k is."""

KS = (2, 4, 8)
BATCHES = {k: QUERIES // k for k in KS}

CELLS = update_config(
    in_cells(DEFAULTS),
    dict(
        code=dict(decoder=PositionalDecoder),
        trained=("encoder", "parity_models"),
        loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    ),
)

NARROWER = dict(model=dict(widths=(62, 124, 248, 496)), parity_start=FromPrunedBaseModel())
"""Of k = 8: its cells have sides that strides of 2 do not divide, and would cost more than 1.10 x."""

PACKED = update_config(
    {**CELLS, "model": dict(network=PackedStudents, student=ResNet, blocks=(2, 2, 2, 2))},
    dict(code=dict(encoder=PackedEncoder), trained=("parity_models",), parity_start=None),
)
STUDENTS = {k: dict(widths=(width, 2 * width, 4 * width, 8 * width)) for k, width in {2: 46, 4: 32, 8: 22}.items()}

CONFIGS = {
    "resnet18_gpu_base": base_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss(label_smoothing=0.1))),
    **parity_configs("resnet18_gpu", DEFAULTS, dict(add=(LinearEncoder, KS)), BATCHES),
    **packed_configs("resnet18_gpu", PACKED, STUDENTS, QUERIES, temperature=2.0),
}
for ks, config in (((2, 4), CELLS), ((8,), update_config(CELLS, NARROWER))):
    towards_base = update_config(config, towards_base_model(temperature=2.0))
    CONFIGS |= parity_configs("resnet18_gpu", config, dict(cells=(LearnedGridEncoder, ks)), BATCHES)
    CONFIGS |= parity_configs("resnet18_gpu", towards_base, dict(cells_kl=(LearnedGridEncoder, ks)), BATCHES)
