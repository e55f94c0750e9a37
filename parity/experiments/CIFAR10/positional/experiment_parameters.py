"""Positional codes on CIFAR-10: the base network itself, started from the base model, answers k small images at once.

    python train.py --dataset CIFAR10 --experiment_name 'small_resnet_k*_cells*' --set trainer.precision=bf16-mixed

6 epochs, 5 minutes (k = 4) to 8 (k = 2) on 1 core. Test accuracy on the JPEG version of the data (A_a 0.7522, of a base
model that had 6 epochs too), any number of predictions missing, mean of three seeds (benchmarks/better_codes.py):

    small_resnet_k2_cells  A_d 0.7819   small_resnet_k2_cells_kl  A_d 0.7309, reconstruction accuracy 0.8824
    small_resnet_k4_cells  A_d 0.7575   small_resnet_k4_cells_kl  A_d 0.7231, reconstruction accuracy 0.8449

_kl is trained towards the base model in place of true labels. k = 3 and resnet18_* were not run.
"""

from typing import Any

from parity.coders import LearnedGridEncoder
from parity.experiments.CIFAR10.original import experiment_parameters as original
from parity.experiments.CIFAR10.small.experiment_parameters import SMALL_PARITY
from parity.experiments.config import Config, update_config
from parity.experiments.MNIST.original.experiment_parameters import Codes, parity_configs
from parity.experiments.MNIST.positional.experiment_parameters import POSITIONAL
from parity.models import FromBaseModel, PerCell
from parity.training import KLDivergence, ReconstructionLoss, parities_alone

CODES: Codes = dict(cells=(LearnedGridEncoder, (2, 3, 4)))
KL_CODES: Codes = dict(cells_kl=(LearnedGridEncoder, (2, 3, 4)))

PER_CELL = update_config(POSITIONAL, dict(model=dict(network=PerCell), parity_init=None, parity_start=FromBaseModel()))

LIKE_BASE_MODEL = dict(loss=ReconstructionLoss(KLDivergence(temperature=2.0), parities_alone))
"""Trains a parity model to say what the base model says, in place of what is true."""


def cells_of(config: Config) -> dict[str, Any]:
    """Return a code's config for a convolutional base network with what makes it a positional one.

    The network of the config answers each cell, and starts from the base model's weights.
    """
    return update_config(update_config(config, PER_CELL), dict(model=dict(cell_network=config["model"]["network"])))


RESNET18 = dict(optimizer=original.CIFAR_BASE["optimizer"], schedule=original.CIFAR_BASE["schedule"])

CONFIGS = {
    **parity_configs("small_resnet", cells_of(SMALL_PARITY), CODES),
    **parity_configs("small_resnet", update_config(cells_of(SMALL_PARITY), LIKE_BASE_MODEL), KL_CODES),
    **parity_configs("resnet18", update_config(cells_of(original.PARITY), RESNET18), CODES),
}
"""ResNet-18's parity models are trained as their base model is, for as many epochs as the config they come from."""
