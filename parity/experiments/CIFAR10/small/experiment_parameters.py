"""A small ResNet on CIFAR-10 for minutes on a CPU: three stages of one block, 24 to 96 channels.

    python train.py --dataset CIFAR10 --experiment_name 'small_resnet_*'
    python train.py --dataset CIFAR10 --experiment_name small_resnet_k2_add --print_config

6 epochs each of 2 minutes on 1 core. Test results on the JPEG version of the data (benchmarks/real_data.py), one seed:

    small_resnet_base       A_a 0.7522
    small_resnet_k2_concat  A_d 0.6620, reconstruction accuracy 0.7678
    small_resnet_k2_add     A_d 0.5113, reconstruction accuracy 0.5745

k = 4 was not run.
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LinearDecoder, LinearEncoder
from parity.experiments.recipes import base_config, parity_configs
from parity.models import InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import SGD, OneCycle, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=5000),
    model=dict(network=ResNet, blocks=(1, 1, 1), widths=(24, 48, 96)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=SGD(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=6),
)

CONFIGS = {
    "small_resnet_base": base_config(DEFAULTS, dict(data=dict(batch_size=128), loss=nn.CrossEntropyLoss())),
    **parity_configs(
        "small_resnet", DEFAULTS, dict(add=(LinearEncoder, (2, 4)), concat=(ConcatenationEncoder, (2, 4)))
    ),
}
