"""The networks of the original parity-models work for speech commands, on log-spectrograms of 1 x 161 x 101.

It takes them from github.com/adiyoss/GCommandsPytorch. Here as there, predictions are logits.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError


class VGG11(nn.Module):
    """VGG-11 with batch normalisation and two linear layers; as in the original, nothing is between those two.

    Args:
        query_shape: shape Q of a query, (C, H, W), 32 x 32 or larger.
        prediction_shape: shape P of a prediction, e.g. ``(30,)``.

    Raises:
        ParityError: the queries are not spectrograms, or smaller.
    """

    def __init__(self, query_shape: Sequence[int], prediction_shape: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = _spectrogram("VGG11", query_shape, smallest=32)
        layers: list[nn.Module] = []
        for stage in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
            for out_channels in stage:
                layers += [
                    nn.Conv2d(channels, out_channels, 3, padding=1),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(inplace=True),
                ]
                channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(channels * (height // 32) * (width // 32), 512)
        self.fc2 = nn.Linear(512, math.prod(prediction_shape))
        self.prediction_shape = tuple(prediction_shape)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as LeNet

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        features = self.features(queries).flatten(1)
        return self.fc2(self.fc1(features)).view(queries.shape[0], *self.prediction_shape)


class LeNet(nn.Module):
    """Two 5 x 5 convolutions, each followed by max-pooling and ReLU, and two linear layers with ReLU between.

    Args:
        query_shape: shape Q of a query, (C, H, W), 16 x 16 or larger.
        prediction_shape: shape P of a prediction, e.g. ``(30,)``.
        dropout: of channels of the second convolution, and of hidden units. The original has it off; GCommandsPytorch
            has 0.5.
        widths: channels of the two convolutions.
        hidden: units of the first linear layer.

    Raises:
        ParityError: the queries are not spectrograms, or smaller.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        dropout: float = 0.0,
        widths: tuple[int, int] = (20, 20),
        hidden: int = 1000,
    ) -> None:
        super().__init__()
        channels, height, width = _spectrogram("LeNet", query_shape, smallest=16)
        first, second = widths
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.conv2_drop = nn.Dropout2d(dropout)
        self.fc1 = nn.Linear(second * _twice_halved(height) * _twice_halved(width), hidden)
        self.fc1_drop = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, math.prod(prediction_shape))
        self.prediction_shape = tuple(prediction_shape)
        # Layers compute in the layout of their weights: in this one a step on a CPU takes less than two thirds.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        features = functional.relu(functional.max_pool2d(self.conv1(queries), 2))
        features = functional.relu(functional.max_pool2d(self.conv2_drop(self.conv2(features)), 2))
        hidden = self.fc1_drop(functional.relu(self.fc1(features.flatten(1))))
        return self.fc2(hidden).view(queries.shape[0], *self.prediction_shape)

    def channel_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Return which channels the axes of each weight run over; see ``parity.models.pruning``.

        The second convolution's are never pruned: the first linear layer reads each of them at every pixel.
        """
        return {
            "conv1.weight": ("conv1", None), "conv1.bias": ("conv1",),
            "conv2.weight": (None, "conv1"), "conv2.bias": (None,),
            "fc1.weight": ("fc1", None), "fc1.bias": ("fc1",), "fc2.weight": (None, "fc1"), "fc2.bias": (None,),
        }  # fmt: skip


def _spectrogram(network: str, query_shape: Sequence[int], smallest: int) -> Sequence[int]:
    if len(query_shape) != 3 or min(query_shape[1:]) < smallest:
        raise ParityError(
            f"{network} takes spectrograms (C, H, W) of {smallest} x {smallest} or larger, "
            f"not queries of shape {tuple(query_shape)}."
        )
    return query_shape


def _twice_halved(side: int) -> int:
    """Return what two 5 x 5 convolutions, each pooled by 2, leave of a side."""
    return ((side - 4) // 2 - 4) // 2
