"""The configs of Speech Commands' ``original`` collection, on the Free Spoken Digit Dataset; fewer epochs.

    python train.py --dataset FSDD --experiment_name 'lenet_*'

lenet_base: A_a 0.9600 on 300 test clips after 8 epochs; lenet_k2_add: A_d 0.9100, reconstruction accuracy 0.9300 after
40 epochs of 35 s on 1 core (benchmarks/real_data.py, one seed). The others were not run.
"""

from parity.experiments.config import update_config
from parity.experiments.SpeechCommands.original.experiment_parameters import SPOKEN_WORDS

CONFIGS = {
    name: update_config(config, dict(trainer=dict(max_epochs=8 if name.endswith("_base") else 40)))
    for name, config in SPOKEN_WORDS.items()
}
