"""Linear codes with several parity models on the embedded digits.

    python train.py --dataset Digits --experiment_name 'mlp_*_linear_*'     10 s each on 1 core

Test A_d (one prediction missing, all r parity answers there) of the best checkpoint, seed 0:

            k = 2    k = 3    k = 4
    r = 2   0.9444   0.9556   0.8833
    r = 3   0.9583   0.9583   0.9111
"""

from parity.experiments.config import update_config
from parity.experiments.Digits.original.experiment_parameters import DIGITS
from parity.experiments.MNIST.linear import experiment_parameters as mnist

CONFIGS = {name: update_config(config, DIGITS) for name, config in mnist.CONFIGS.items()}
