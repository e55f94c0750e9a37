"""The original recipe on CIFAR-100, with its "ResNet-152" of 3, 8, 36 and 3 basic blocks; not run yet.

    python train.py --dataset CIFAR100 --experiment_name 'resnet152_k2_*'

Published with k = 2 and add (REFERENCES.md): 6.40 points lost when rebuilt.
"""

from parity.experiments.CIFAR10.original.experiment_parameters import CIFAR_BASE, LONG_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.models import ResNet

RESNET152 = dict(model=dict(network=ResNet, blocks=(3, 8, 36, 3)))

CONFIGS = {
    "resnet152_base": update_config(CIFAR_BASE, RESNET152),
    **parity_configs("resnet152", update_config(LONG_PARITY, RESNET152)),
}
