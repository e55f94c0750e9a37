"""Positional codes on CIFAR-100, as on CIFAR-10; not run yet.

python train.py --dataset CIFAR100 --experiment_name resnet152_k2_cells
"""

from parity.experiments.CIFAR10.original.experiment_parameters import LONG_PARITY
from parity.experiments.CIFAR10.positional.experiment_parameters import CODES, RESNET18, cells_of
from parity.experiments.CIFAR100.original.experiment_parameters import RESNET152
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs

PARITY = update_config(update_config(LONG_PARITY, RESNET152), RESNET18)

CONFIGS = parity_configs("resnet152", cells_of(PARITY), CODES)
