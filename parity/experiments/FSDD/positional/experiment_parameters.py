"""The configs of Speech Commands' ``positional`` collection, on the Free Spoken Digit Dataset; fewer epochs.

    python train.py --dataset FSDD --experiment_name 'lenet_k*_cells*'

20 epochs, 10 to 15 minutes on 1 core. Test accuracy on 300 clips (A_a 0.9600), any number of predictions missing,
mean of three seeds (benchmarks/better_codes.py): lenet_k2_cells A_d 0.9700, lenet_k4_cells A_d 0.9733. The others were
not run.
"""

from parity.experiments.config import update_config
from parity.experiments.SpeechCommands.positional.experiment_parameters import WORD_CELLS

CONFIGS = {name: update_config(config, dict(trainer=dict(max_epochs=20))) for name, config in WORD_CELLS.items()}
