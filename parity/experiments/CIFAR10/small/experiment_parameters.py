"""A small ResNet on CIFAR-10 for minutes on a CPU: three stages of one block, 24 to 96 channels.

    python train.py --dataset CIFAR10 --experiment_name 'small_resnet_*'

6 epochs each of 2 minutes on 1 core. Test results on the JPEG version of the data (benchmarks/real_data.py), one seed:

    small_resnet_base       A_a 0.7522
    small_resnet_k2_concat  A_d 0.6620, reconstruction accuracy 0.7678
    small_resnet_k2_add     A_d 0.5113, reconstruction accuracy 0.5745

k = 4 was not run.
"""

from parity.experiments.CIFAR10.original.experiment_parameters import CIFAR_BASE, LONG_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import CODES, parity_configs
from parity.models import ResNet
from parity.training import SGD, OneCycle

SMALL = dict(
    model=dict(network=ResNet, blocks=(1, 1, 1), widths=(24, 48, 96)),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

SMALL_BASE, SMALL_PARITY = update_config(CIFAR_BASE, SMALL), update_config(LONG_PARITY, SMALL)

SMALL_CODES = {code: (encoder, (2, 4)) for code, (encoder, _) in CODES.items()}

CONFIGS = {"small_resnet_base": SMALL_BASE, **parity_configs("small_resnet", SMALL_PARITY, SMALL_CODES)}
