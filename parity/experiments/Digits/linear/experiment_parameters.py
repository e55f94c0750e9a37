"""Linear codes with several parity models on the embedded digits.

TODO
"""

from parity.experiments.Digits.original.experiment_parameters import DIGITS
from parity.experiments.MNIST.linear import experiment_parameters as mnist
from parity.experiments.utils import update_config

CONFIGS = {name: update_config(config, DIGITS) for name, config in mnist.CONFIGS.items()}
