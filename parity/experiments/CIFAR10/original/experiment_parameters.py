"""The original recipe on CIFAR-10, with ResNet-18 in its form for small images; not run yet.

    python train.py --dataset CIFAR10 --experiment_name 'resnet18_k2_*'

Published with k = 2 and add (REFERENCES.md): 6.13 points lost when rebuilt. Images are encoded channel by channel here;
``flattened_add`` is what the original's code does instead, to compare with its figures. ``learned`` trains a
convolutional encoder and an MLP decoder, with the base model itself as parity model.
"""

from parity.coders import ConvolutionalEncoder, FlattenedChannelSumEncoder
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import ANY_PARITY, BASE, CODES, LEARNED, parity_configs
from parity.models import ResNet
from parity.training import SGD, OneCycle

CIFAR_BASE = update_config(
    BASE,
    dict(
        data=dict(batch_size=128),
        optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
        schedule=OneCycle(),
        trainer=dict(max_epochs=200),
    ),
)

LONG_PARITY = update_config(ANY_PARITY, dict(trainer=dict(max_epochs=1000)))
"""The original's parity models beyond MNIST and Fashion-MNIST."""

RESNET18 = dict(model=dict(network=ResNet, blocks=(2, 2, 2, 2)))

PARITY = update_config(LONG_PARITY, RESNET18)

CONFIGS = {
    "resnet18_base": update_config(CIFAR_BASE, RESNET18),
    **parity_configs("resnet18", PARITY, {**CODES, "flattened_add": (FlattenedChannelSumEncoder, (2, 3, 4))}),
    **parity_configs("resnet18", update_config(PARITY, LEARNED), {"learned": (ConvolutionalEncoder, (2, 3, 4))}),
}
