"""Boxes of MNIST's digits on canvases of 48 x 48 pixels, with a small convolutional network.

    python train.py --dataset DigitBoxes --experiment_name 'convnet_*'
    python train.py --dataset DigitBoxes --experiment_name convnet_k2_add --print_config

Test results of the best checkpoint, one seed; times are of 1 of 2 cores while other work kept both busy (an epoch of
convnet_base alone takes about 30 s of CPU time). IoU is the mean with the true boxes, the share that with IoU >= 0.75:

                       IoU      share    minutes
    convnet_base       0.9200   0.9851   11          A_a
    convnet_k2_concat  0.8443   0.8769   2.6         A_d, here and below
    convnet_k4_concat  0.7094   0.4744   1.5
    convnet_k2_add     0.6876   0.3900   2.1
    convnet_k3_add     0.5423   0.1253   1.8
    convnet_k4_add     0.4561   0.0525   1.3

The mean training box, predicted for every canvas, has an IoU of 0.2534. These are the first settings tried: none was
tuned.
"""

from torch import nn

from parity.coders import ConcatenationEncoder, LinearDecoder, LinearEncoder
from parity.experiments.config import update_config
from parity.experiments.recipes import base_config
from parity.models import BoxNetwork, LastBias
from parity.training import Adam, OneCycle, ParityTargetLoss

MEAN_BOX = (-0.3820, -0.4902, 0.7596, 0.9835)
"""Of the training split: ``DigitBoxesDataModule().default_prediction()``."""

DEFAULTS = dict(
    data=dict(batch_size=128),
    base="convnet_base",
    model=dict(network=BoxNetwork, widths=(16, 32, 64)),
    code=dict(r=1, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=3e-3),
    schedule=OneCycle(),
    trainer=dict(max_epochs=8),
)

BASE = dict(data=dict(batch_size=256), loss=nn.SmoothL1Loss(beta=0.1), trainer=dict(max_epochs=6))

ENCODERS = dict(add=LinearEncoder, concat=ConcatenationEncoder)

CONFIGS = {"convnet_base": base_config(DEFAULTS, BASE)} | {
    f"convnet_k{k}_{code}": update_config(
        DEFAULTS,
        dict(code=dict(k=k, encoder=ENCODERS[code]), parity_init=LastBias(tuple(k * value for value in MEAN_BOX))),
    )
    for code, ks in (("add", (2, 3, 4)), ("concat", (2, 4)))
    for k in ks
}
