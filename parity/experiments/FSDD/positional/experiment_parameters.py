"""The configs of Speech Commands' ``positional`` collection, on the Free Spoken Digit Dataset; fewer epochs.

python train.py --dataset FSDD --experiment_name 'lenet_k*_cells'
"""

from parity.experiments.SpeechCommands.positional.experiment_parameters import WORD_CELLS
from parity.experiments.utils import update_config

CONFIGS = {name: update_config(config, dict(trainer=dict(max_epochs=20))) for name, config in WORD_CELLS.items()}
