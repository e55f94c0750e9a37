"""The original recipe on CUB-200-2011: where is the bird? Kosaian, Rashmi, Venkataraman (SOSP 2019).

    python train.py --dataset CUB --experiment_name resnet18_k2_add
    python train.py --dataset CUB --experiment_name resnet18_k2_add --print_config

Not run to its end: the images are not at hand. The boxes of the original's own base model, which it publishes, have a
mean IoU of 0.9157 with the true ones, and an IoU of 0.75 or more for 0.9467 of them (tests/test_tasks.py).
"""

from torch import nn
from torchvision.models import resnet18

from parity.coders import LinearDecoder, LinearEncoder
from parity.experiments.recipes import base_config
from parity.models import InOrder, LastBias, NormalLinear, XavierConvolution, torchvision_model
from parity.training import Adam, ParityTargetLoss

MEAN_BOX = (-0.5591, -0.5680, 1.1064, 1.2060)
"""Of the original's training split."""

DEFAULTS = dict(
    data=dict(batch_size=64),
    base="resnet18_base",
    model=dict(network=torchvision_model, constructor=resnet18),
    parity_init=InOrder((XavierConvolution(), NormalLinear(), LastBias(tuple(2 * value for value in MEAN_BOX)))),
    code=dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder),
    loss=ParityTargetLoss(nn.MSELoss()),
    optimizer=Adam(lr=1e-3, weight_decay=1e-5),
    trainer=dict(max_epochs=1000),
)

CONFIGS = {"resnet18_base": base_config(DEFAULTS, dict(loss=nn.MSELoss())), "resnet18_k2_add": DEFAULTS}
