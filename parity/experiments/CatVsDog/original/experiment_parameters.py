"""The original recipe on photographs of cats and dogs at 224 pixels, with torchvision's ResNet-18; not run yet.

    python train.py --dataset CatVsDog --experiment_name 'resnet18_k2_*'

Published with k = 2 and add (REFERENCES.md): 4.30 points lost when rebuilt.
"""

import torchvision

from parity.experiments.CIFAR10.original.experiment_parameters import CIFAR_BASE, LONG_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.models import torchvision_model
from parity.training.objectives.optimizers import SGD

PHOTOGRAPHS = dict(
    data=dict(num_validation=None, num_workers=None),
    model=dict(network=torchvision_model, constructor=torchvision.models.resnet18),
)

CONFIGS = {
    "resnet18_base": update_config(
        update_config(CIFAR_BASE, PHOTOGRAPHS),
        dict(
            data=dict(batch_size=64),
            optimizer=SGD(lr=0.05, momentum=0.9, weight_decay=5e-4),
            trainer=dict(max_epochs=100),
        ),
    ),
    **parity_configs("resnet18", update_config(LONG_PARITY, PHOTOGRAPHS)),
}
