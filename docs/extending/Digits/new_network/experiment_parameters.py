"""A new network: a small convolutional one, as base model and as parity model of the addition code."""

import math

from torch import Tensor, nn

from parity.experiments.Digits.original.experiment_parameters import CONFIGS as ORIGINAL


class ConvNet(nn.Module):
    def __init__(self, query_shape: tuple[int, ...], prediction_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        channels, height, width_of_image = query_shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * (height // 2) * (width_of_image // 2), math.prod(prediction_shape)),
            nn.Unflatten(1, prediction_shape),
        )

    def forward(self, queries: Tensor) -> Tensor:  # (B, *Q) -> (B, *P)
        return self.layers(queries)


MODEL = dict(network=ConvNet, width=32)
CONFIGS = {
    "convnet_base": {**ORIGINAL["mlp_base"], "model": MODEL},
    "convnet_k2_add": {**ORIGINAL["mlp_k2_add"], "model": MODEL, "base": "convnet_base"},
}
