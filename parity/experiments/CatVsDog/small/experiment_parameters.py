"""A small ResNet on photographs of cats and dogs at 64 pixels, for minutes on a CPU.

    python train.py --dataset CatVsDog --experiment_name 'small_resnet_*'
    python train.py --dataset CatVsDog --experiment_name small_resnet_k2_add --print_config

30 epochs each of the 1,000 training images at hand here, of 20 s on a busy core. Results on their 199 test images
(benchmarks/real_data.py), one seed; one of them is half a point, and always predicting 'cat' is right for half of them:

    small_resnet_base       A_a 0.7236
    small_resnet_k2_add     A_d 0.7323, reconstruction accuracy 0.7980
    small_resnet_k2_concat  A_d 0.7172, reconstruction accuracy 0.8737

k = 4 was not run.
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LinearDecoder, LinearEncoder
from parity.experiments.recipes import base_config, parity_configs
from parity.models import InOrder, NormalLinear, ResNet, XavierConvolution
from parity.training import SGD, OneCycle, ParityTargetLoss

DEFAULTS = dict(
    data=dict(batch_size=64, num_validation=None, num_workers=None, size=64, resize=73),
    model=dict(network=ResNet, blocks=(1, 1, 1, 1), widths=(24, 48, 96, 192)),
    parity_init=InOrder((XavierConvolution(), NormalLinear(std=0.01))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=SGD(lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=OneCycle(),
    trainer=dict(max_epochs=30),
)

CONFIGS = {
    "small_resnet_base": base_config(DEFAULTS, dict(data=dict(batch_size=32), loss=nn.CrossEntropyLoss())),
    **parity_configs(
        "small_resnet", DEFAULTS, dict(add=(LinearEncoder, (2, 4)), concat=(ConcatenationEncoder, (2, 4)))
    ),
}
