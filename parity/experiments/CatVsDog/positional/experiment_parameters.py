"""Positional codes on photographs of cats and dogs, as on CIFAR-10; not run yet.

python train.py --dataset CatVsDog --experiment_name small_resnet_k2_cells
"""

from parity.experiments.CatVsDog.original.experiment_parameters import PHOTOGRAPHS
from parity.experiments.CatVsDog.small import experiment_parameters as small
from parity.experiments.CIFAR10.original.experiment_parameters import LONG_PARITY
from parity.experiments.CIFAR10.positional.experiment_parameters import CODES, RESNET18, cells_of
from parity.experiments.CIFAR10.small.experiment_parameters import SMALL_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs

CONFIGS = {
    **parity_configs("small_resnet", cells_of(update_config(SMALL_PARITY, small.PHOTOGRAPHS)), CODES),
    **parity_configs("resnet18", cells_of(update_config(update_config(LONG_PARITY, PHOTOGRAPHS), RESNET18)), CODES),
}
