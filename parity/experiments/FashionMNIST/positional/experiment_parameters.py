"""MNIST's ``positional`` collection on Fashion-MNIST, with milder augmentation; not run: its data is not at hand.

python train.py --dataset FashionMNIST --experiment_name mlp_k2_cells
"""

from parity.data.augmentation import RandomAffine
from parity.experiments.config import update_config
from parity.experiments.MNIST.positional import experiment_parameters as mnist

CLOTHES = dict(data=dict(augmentation=RandomAffine(degrees=5.0, stretch=0.1, shear=0.05, shift=(0.05, 0.05))))

CONFIGS = {name: update_config(config, CLOTHES) for name, config in mnist.CONFIGS.items()}
