"""The configs of Speech Commands' ``original`` collection, on the Free Spoken Digit Dataset; fewer epochs.

    python train.py --dataset FSDD --experiment_name 'lenet_*'

Not run yet.
"""

from parity.experiments.SpeechCommands.original.experiment_parameters import SPOKEN_WORDS
from parity.experiments.utils import update_config

CONFIGS = {
    name: update_config(config, dict(trainer=dict(max_epochs=8 if name.endswith("_base") else 40)))
    for name, config in SPOKEN_WORDS.items()
}
