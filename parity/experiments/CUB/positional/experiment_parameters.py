"""Positional codes on CUB-200-2011, as on DigitBoxes; not run: the images are not at hand.

python train.py --dataset CUB --experiment_name resnet18_k2_cells
"""

from parity.coders import LearnedGridEncoder
from parity.experiments.CIFAR10.positional.experiment_parameters import cells_of
from parity.experiments.config import update_config
from parity.experiments.CUB.original import experiment_parameters as original
from parity.experiments.DigitBoxes.positional.experiment_parameters import BOXES
from parity.experiments.MNIST.original.experiment_parameters import parity_configs

PARITY = update_config(cells_of(original.CONFIGS["resnet18_k2_add"]), BOXES)

CONFIGS = parity_configs("resnet18", PARITY, dict(cells=(LearnedGridEncoder, (2,))))
