"""Positional codes on CIFAR-10: the base network itself, started from the base model, predicts k small images at once.

    python train.py --dataset CIFAR10 --experiment_name 'small_resnet_k*_cells*' --set trainer.precision=bf16-mixed
    python train.py --dataset CIFAR10 --experiment_name small_resnet_k2_cells --print_config

6 epochs, 5 minutes (k = 4) to 8 (k = 2) on 1 core. Test accuracy on the JPEG version of the data (A_a 0.7522, of a base
model that had 6 epochs too), any number of predictions missing, mean of three seeds (benchmarks/better_codes.py):

    small_resnet_k2_cells  A_d 0.7819   small_resnet_k2_cells_kl  A_d 0.7309, reconstruction accuracy 0.8824
    small_resnet_k4_cells  A_d 0.7575   small_resnet_k4_cells_kl  A_d 0.7231, reconstruction accuracy 0.8449

_kl is trained towards the base model in place of true labels. k = 3 and resnet18_* were not run.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.experiments.config import update_config
from parity.experiments.recipes import CELLS, CELLS_KL, parity_configs, towards_base_model
from parity.models import FromBaseModel, PerCell, ResNet
from parity.training import SGD, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=PerCell, cell_network=ResNet, blocks=(1, 1, 1), widths=(24, 48, 96)),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

RESNET18 = {
    **DEFAULTS,
    "model": dict(network=PerCell, cell_network=ResNet, blocks=(2, 2, 2, 2)),
    "optimizer": SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
    "trainer": dict(max_epochs=1000),
}
"""Trained as its base model is, for as many epochs as the original's parity models."""

CONFIGS = {
    **parity_configs("small_resnet", DEFAULTS, CELLS),
    **parity_configs("small_resnet", update_config(DEFAULTS, towards_base_model(temperature=2.0)), CELLS_KL),
    **parity_configs("resnet18", RESNET18, CELLS),
}
