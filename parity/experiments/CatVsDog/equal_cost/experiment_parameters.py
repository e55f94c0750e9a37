"""What else the same extra worker could run beside a small ResNet on cats and dogs at 64 pixels; not run yet.

    python train.py --dataset CatVsDog --experiment_name 'small_resnet_k*_packed*'
    python train.py --dataset CatVsDog --experiment_name small_resnet_k2_packed_kl --print_config

Each parity model has at most 1.10 x the base model's multiply-adds for a query, all k predictions together, and the
recipe of the positional codes: 30 epochs of 10 to 20 s on 1 core. All start from scratch but ``packed_pruned_kl``, from
the base model's channels.
"""

from parity.coders import PackedEncoder, PositionalDecoder, StackingEncoder
from parity.experiments.recipes import packed_configs, superposition_configs
from parity.models import PackedStudents, ResNet
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(num_validation=None, num_workers=None, size=64, resize=73),
    base="small_resnet_base",
    model=dict(network=PackedStudents, student=ResNet, blocks=(1, 1, 1, 1)),
    parity_init=None,
    code=dict(r=1, encoder=PackedEncoder, decoder=PositionalDecoder),
    trained=("parity_models",),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=30),
)

QUERIES = 64
"""In a batch, whatever k is."""

STUDENTS = {2: dict(widths=(17, 34, 68, 136)), 4: dict(widths=(12, 24, 48, 96))}

WHOLE = dict(network=ResNet, blocks=(1, 1, 1, 1), widths=(24, 48, 96, 192))
MIMO = dict(mimo=(StackingEncoder, dict.fromkeys((2, 4), WHOLE)))
"""Encoder, and by k the settings of a network that makes all k predictions."""

CONFIGS = {
    **packed_configs("small_resnet", DEFAULTS, STUDENTS, QUERIES, temperature=2.0),
    **superposition_configs("small_resnet", DEFAULTS, MIMO, QUERIES, temperature=2.0),
}
