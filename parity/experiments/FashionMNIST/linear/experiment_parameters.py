"""The configs of MNIST's ``linear`` collection, on Fashion-MNIST; not run yet, for its data is not at hand here.

python train.py --dataset FashionMNIST --experiment_name mlp_k2_linear_r2
"""

from parity.experiments.MNIST.linear.experiment_parameters import CONFIGS

__all__ = ["CONFIGS"]
