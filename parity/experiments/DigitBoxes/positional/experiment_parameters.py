"""Positional codes for localisation: the base network finds the box in each of k small canvases; not run yet.

python train.py --dataset DigitBoxes --experiment_name 'convnet_k*_cells'
"""

from parity.experiments.CIFAR10.positional.experiment_parameters import CODES, cells_of
from parity.experiments.config import update_config
from parity.experiments.DigitBoxes.small.experiment_parameters import PARITY
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.training import ReconstructionLoss, SquaredError, parities_alone

BOXES = dict(loss=ReconstructionLoss(SquaredError(), parities_alone))
"""Boxes have no temperature."""

CONFIGS = parity_configs("convnet", update_config(cells_of(PARITY), BOXES), CODES)
