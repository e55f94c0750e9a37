"""The original recipe on Speech Commands v0.01 (30 words): VGG-11 and LeNet on log-spectrograms.

    python train.py --dataset SpeechCommands --experiment_name vgg11_k2_add

Not run yet, for its data is not at hand here. The authors' figures: A_d 0.915 / 0.839 / 0.756 for k = 2 / 3 / 4, with a
base model of about A_a 0.946.
"""

from parity.coders import LinearEncoder
from parity.experiments.CIFAR10.original.experiment_parameters import LONG_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import BASE, parity_configs
from parity.models import VGG11, LeNet
from parity.training import Adam

NETWORKS = dict(vgg11=VGG11, lenet=LeNet)
TRAINING = dict(data=dict(num_validation=None), optimizer=Adam(lr=1e-3), trainer=dict(max_epochs=30))

SPOKEN_WORDS = {}
for name, network in NETWORKS.items():
    model = dict(model=dict(network=network))
    SPOKEN_WORDS[f"{name}_base"] = update_config(update_config(BASE, TRAINING), model)
    parity = update_config(LONG_PARITY, dict(data=dict(num_validation=None), **model))
    SPOKEN_WORDS |= parity_configs(name, parity, {"add": (LinearEncoder, (2, 3, 4))})

CONFIGS = {name: update_config(config, dict(data=dict(version="0.01"))) for name, config in SPOKEN_WORDS.items()}
