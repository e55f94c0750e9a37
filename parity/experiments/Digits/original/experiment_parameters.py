"""The original codes on the embedded digits: 8 x 8 pixels, 1,437 to train with, 360 to test.

    python train.py --dataset Digits --experiment_name 'mlp_*'      10 s each on 1 core

Test accuracy of the best checkpoint, seed 0; with 360 queries one of them is 0.3 points:

    mlp_base        A_a 0.9611
    mlp_k2_add      A_d 0.9500      mlp_k2_concat   A_d 0.8667
    mlp_k3_add      A_d 0.8472
    mlp_k4_add      A_d 0.7417      mlp_k4_concat   A_d 0.2389: four digits of 4 x 4 pixels are too much to ask

The learned codes (mlp_*_learned*): not run yet.
"""

from parity.experiments.config import update_config
from parity.experiments.MNIST.original import experiment_parameters as mnist

DIGITS = dict(data=dict(batch_size=32, num_validation=240), trainer=dict(max_epochs=200))

CONFIGS = {name: update_config(config, DIGITS) for name, config in mnist.CONFIGS.items() if name.startswith("mlp_")}
CONFIGS["mlp_base"] = update_config(CONFIGS["mlp_base"], dict(trainer=dict(max_epochs=50)))
