"""Positional codes on spoken words: k spectrograms, each made shorter, answered by the base network; not run yet.

python train.py --dataset SpeechCommands --experiment_name lenet_k2_cells
"""

from typing import Any

from parity.data.augmentation import RandomAffine
from parity.experiments.CIFAR10.positional.experiment_parameters import CODES, KL_CODES, LIKE_BASE_MODEL, cells_of
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.experiments.SpeechCommands.original.experiment_parameters import SPOKEN_WORDS
from parity.training import Adam, OneCycle

MOVED = RandomAffine(degrees=0.0, stretch=0.1, shear=0.0, shift=(0.02, 0.1))
"""Spectrograms are moved in time more than in frequency, and stretched."""

TRAINING = dict(
    data=dict(augmentation=MOVED), optimizer=Adam(lr=1e-3), schedule=OneCycle(), trainer=dict(max_epochs=100)
)

WORD_CELLS: dict[str, Any] = {}
for network in ("vgg11", "lenet"):
    config = update_config(cells_of(SPOKEN_WORDS[f"{network}_k2_add"]), TRAINING)
    WORD_CELLS |= parity_configs(network, config, CODES)
    WORD_CELLS |= parity_configs(network, update_config(config, LIKE_BASE_MODEL), KL_CODES)

CONFIGS = {name: update_config(config, dict(data=dict(version="0.01"))) for name, config in WORD_CELLS.items()}
