"""Positional codes on CIFAR-10: the base network itself, started from the base model, answers k small images at once.

python train.py --dataset CIFAR10 --experiment_name 'small_resnet_k*_cells'
"""

from typing import Any

from parity.coders import LearnedGridEncoder
from parity.experiments.CIFAR10.original import experiment_parameters as original
from parity.experiments.CIFAR10.small.experiment_parameters import SMALL_PARITY
from parity.experiments.MNIST.original.experiment_parameters import Codes, parity_configs
from parity.experiments.MNIST.positional.experiment_parameters import POSITIONAL
from parity.experiments.utils import update_config
from parity.experiments.utils.config import Config
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
