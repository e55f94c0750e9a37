"""A small ResNet on photographs of cats and dogs at 64 pixels, for minutes on a CPU.

    python train.py --dataset CatVsDog --experiment_name 'small_resnet_*'

30 epochs each of the 1,000 training images at hand here, of 20 s on a busy core. Results on their 199 test images
(benchmarks/real_data.py), one seed; one of them is half a point, and always saying 'cat' is right for half of them:

    small_resnet_base       A_a 0.7236
    small_resnet_k2_add     A_d 0.7323, reconstruction accuracy 0.7980
    small_resnet_k2_concat  A_d 0.7172, reconstruction accuracy 0.8737

k = 4 was not run.
"""

from parity.experiments.CIFAR10.small.experiment_parameters import SMALL_BASE, SMALL_CODES, SMALL_PARITY
from parity.experiments.config import update_config
from parity.experiments.MNIST.original.experiment_parameters import parity_configs
from parity.training.objectives.optimizers import SGD

PHOTOGRAPHS = dict(
    data=dict(num_validation=None, num_workers=None, size=64, resize=73),
    model=dict(blocks=(1, 1, 1, 1), widths=(24, 48, 96, 192)),
    optimizer=SGD(lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True),
    trainer=dict(max_epochs=30),
)

CONFIGS = {
    "small_resnet_base": update_config(update_config(SMALL_BASE, PHOTOGRAPHS), dict(data=dict(batch_size=32))),
    **parity_configs("small_resnet", update_config(SMALL_PARITY, PHOTOGRAPHS), SMALL_CODES),
}
