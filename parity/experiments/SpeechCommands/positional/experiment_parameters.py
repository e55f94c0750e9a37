"""Positional codes on spoken words: k shortened spectrograms, each predicted by the base network; not run yet.

    python train.py --dataset SpeechCommands --experiment_name lenet_k2_cells
    python train.py --dataset SpeechCommands --experiment_name lenet_k2_cells --print_config

Spectrograms are moved in time more than in frequency, and stretched. _kl is trained towards the base model in place of
true labels.
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
        version="0.01",
    ),
    model=dict(network=PerCell, cell_network=VGG11),
    parity_init=None,
    parity_start=FromBaseModel(),
    code=dict(r=1, encoder=LearnedGridEncoder, decoder=PositionalDecoder),
    trained=("encoder", "parity_models"),
    loss=LabelReconstructionLoss(CrossEntropy(), parities_alone),
    optimizer=Adam(lr=1e-3),
    schedule=OneCycle(),
    trainer=dict(max_epochs=100),
)

LENET = update_config(DEFAULTS, dict(model=dict(cell_network=LeNet)))

KL = towards_base_model(temperature=2.0)

CONFIGS = {
    **parity_configs("vgg11", DEFAULTS, CELLS),
    **parity_configs("vgg11", update_config(DEFAULTS, KL), CELLS_KL),
    **parity_configs("lenet", LENET, CELLS),
    **parity_configs("lenet", update_config(LENET, KL), CELLS_KL),
}
