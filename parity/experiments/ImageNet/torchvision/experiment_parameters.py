"""Parity models for torchvision's ResNet-18 and ResNet-50 on ImageNet; not run yet.

    export IMAGENET_PATH=/where/ImageNet/is
    python train.py --dataset ImageNet --experiment_name resnet18_k2_add --base_weights resnet18-f37072fd.pth
    python train.py --dataset ImageNet --experiment_name resnet50_k2_concat --set data.steps_per_epoch=5000

The first takes torchvision's published weights (https://download.pytorch.org/models/) as the base model; without such a
file it is trained first, by about the recipe of torchvision's references. An epoch of a parity model is 1,000 steps,
and 10,000 images are held out of the training data for validation after each.
"""

import torchvision

from parity.experiments.CIFAR10.original.experiment_parameters import CIFAR_BASE, LONG_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.models import torchvision_model
from parity.training.objectives.optimizers import SGD, OneCycle

IMAGENET = dict(data=dict(num_validation=10_000, steps_per_epoch=None, num_workers=None))

IMAGENET_BASE = update_config(
    update_config(CIFAR_BASE, IMAGENET),
    dict(
        data=dict(batch_size=256),
        optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=1e-4),
        schedule=OneCycle(warm_up=0.05),
        trainer=dict(max_epochs=90),
    ),
)

IMAGENET_PARITY = update_config(update_config(LONG_PARITY, IMAGENET), dict(data=dict(steps_per_epoch=1000)))

RESNET18 = dict(model=dict(network=torchvision_model, constructor=torchvision.models.resnet18))
RESNET50 = dict(model=dict(network=torchvision_model, constructor=torchvision.models.resnet50))

CONFIGS = {
    "resnet18_base": update_config(IMAGENET_BASE, RESNET18),
    **parity_configs("resnet18", update_config(IMAGENET_PARITY, RESNET18)),
    "resnet50_base": update_config(IMAGENET_BASE, RESNET50),
    **parity_configs("resnet50", update_config(IMAGENET_PARITY, RESNET50)),
}
