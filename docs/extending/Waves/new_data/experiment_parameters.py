"""A new data set: which of three pitches does a noisy wave have?"""

import torch
from torch import Tensor, nn

from parity.coders import LinearDecoder, LinearEncoder
from parity.data import TensorDataModule
from parity.experiments.config import update_config
from parity.models import MLP
from parity.training import Adam, ParityTargetLoss


class WavesDataModule(TensorDataModule):  # its name is what --dataset takes
    NUM_CLASSES = 3
    QUERY_SHAPE = (1, 64)
    NUM_VALIDATION = 300

    def load(self, train: bool) -> tuple[Tensor, Tensor]:  # stored as uint8, scaled by 1 / 255 on the device
        generator = torch.Generator().manual_seed(0 if train else 1)
        pitches = torch.randint(3, (3000 if train else 500,), generator=generator)
        phases, noise = (
            torch.rand(len(pitches), 1, 1, generator=generator),
            torch.randn(len(pitches), 1, 64, generator=generator),
        )
        waves = torch.sin(torch.linspace(0, 9, 64) * (1 + pitches.view(-1, 1, 1)) + 6.28 * phases) + 0.2 * noise
        return (128 + 60 * waves).clamp(0, 255).byte(), pitches


DEFAULTS = dict(
    data=dict(batch_size=32),
    model=dict(network=MLP, hidden=(100,)),
    optimizer=Adam(lr=1e-3),
    trainer=dict(max_epochs=20),
)
ADD = dict(k=2, r=1, encoder=LinearEncoder, decoder=LinearDecoder)
CONFIGS = {
    "mlp_base": update_config(DEFAULTS, dict(loss=nn.CrossEntropyLoss())),
    "mlp_k2_add": update_config(DEFAULTS, dict(base="mlp_base", loss=ParityTargetLoss(nn.MSELoss()), code=ADD)),
}
