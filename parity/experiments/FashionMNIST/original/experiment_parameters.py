"""MNIST's ``original`` collection but for learned codes, on Fashion-MNIST, whose data is not at hand here; not run yet.

python train.py --dataset FashionMNIST --experiment_name mlp_k2_add
"""

from parity.experiments.MNIST.original.experiment_parameters import WITH_PARITY_MODELS

CONFIGS = WITH_PARITY_MODELS
