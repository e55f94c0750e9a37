"""Positional codes on the Free Spoken Digit Dataset, as on Speech Commands; fewer epochs.

    python train.py --dataset FSDD --experiment_name 'lenet_k*_cells*'
    python train.py --dataset FSDD --experiment_name lenet_k2_cells --print_config

20 epochs, 10 to 15 minutes on 1 core. Test accuracy on 300 clips (A_a 0.9600), any number of predictions missing,
mean of three seeds (benchmarks/better_codes.py): lenet_k2_cells A_d 0.9700, lenet_k4_cells A_d 0.9733. The others were
not run.
"""

from parity.coders import LearnedGridEncoder, PositionalDecoder
from parity.data.augmentation import RandomAffine
from parity.experiments.config import update_config
from parity.experiments.recipes import CELLS, CELLS_KL, parity_configs, towards_base_model
from parity.models import VGG11, FromBaseModel, LeNet, PerCell
from parity.training import Adam, CrossEntropy, LabelReconstructionLoss, OneCycle, parities_alone

DEFAULTS = dict(
    data=dict(
        batch_size=64,
        num_validation=None,
        augmentation=RandomAffine(degrees=0.0, stretch=0.1, shear=0.0, shift=(0.02, 0.1)),
    ),
    model=dict(network=PerCell, cell_network=VGG11),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=Adam(lr=1e-3),
    schedule=OneCycle(),
    trainer=dict(max_epochs=20),
)

LENET = update_config(DEFAULTS, dict(model=dict(cell_network=LeNet)))

KL = towards_base_model(temperature=2.0)

CONFIGS = {
    **parity_configs("vgg11", DEFAULTS, CELLS),
    **parity_configs("vgg11", update_config(DEFAULTS, KL), CELLS_KL),
    **parity_configs("lenet", LENET, CELLS),
    **parity_configs("lenet", update_config(LENET, KL), CELLS_KL),
}
