"""The original codes on the embedded digits, 8 x 8.

TODO
"""

from parity.experiments.MNIST.original import experiment_parameters as mnist
from parity.experiments.utils import update_config

DIGITS = dict(data=dict(batch_size=32, num_validation=240), trainer=dict(max_epochs=200))

CONFIGS = {name: update_config(config, DIGITS) for name, config in mnist.CONFIGS.items()}
CONFIGS["mlp_base"] = update_config(CONFIGS["mlp_base"], dict(trainer=dict(max_epochs=50)))
