"""Learned codes: encoders and decoders that are networks and are trained, beside or instead of a parity model.

Kosaian, Rashmi, Venkataraman: "Learning a Code: Machine Learning for Approximate Non-Linear Coded Computation",
arXiv 1806.01259.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape, SystematicDecoder
from parity.errors import ParityError

# Of the 3x3 layers of ``ConvolutionalEncoder``; together every pixel sees 17 pixels in each direction.
_DILATIONS = (1, 1, 2, 4, 8, 1)


class ChannelwiseEncoder(Encoder, ABC):
    """A network that encodes every channel of images on its own: red with red.

    Args:
        r: at least 1.
        query_shape: (C, H, W).

    Raises:
        ParityError: r = 0, or a query that is not an image.
    """

    least_r = 1

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        if len(self.query_shape) != 3:
            raise ParityError(
                f"{type(self).__name__} needs images (C, H, W), which it encodes channel by channel, but a query here "
                f"has shape {self.query_shape}."
            )
        self.network = self.make_network(*self.query_shape[1:])

    @abstractmethod
    def make_network(self, height: int, width: int) -> nn.Module:
        """Make what encodes one channel of each query: (B, k, H, W) -> (B, r, H, W)."""

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, r, C, H, W)."""
        channels = queries.transpose(1, 2)
        return self.network(channels.flatten(0, 1)).unflatten(0, channels.shape[:2]).transpose(1, 2)


class MLPEncoder(ChannelwiseEncoder):
    """A network of two linear layers, k·d -> k·d -> r·d with a ReLU between, where d = H·W."""

    def make_network(self, height: int, width: int) -> nn.Module:
        size = self.k * height * width
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, size),
            nn.ReLU(),
            nn.Linear(size, self.r * height * width),
            nn.Unflatten(1, (self.r, height, width)),
        )


class ConvolutionalEncoder(ChannelwiseEncoder):
    """A network of seven convolutions that sees the k queries as its input channels and keeps their sides.

    Six layers of 3x3 kernels with 20·k channels and dilations 1, 1, 2, 4, 8, 1, then a 1x1 layer to r channels, with
    ReLU between.
    """

    def make_network(self, height: int, width: int) -> nn.Module:
        channels = 20 * self.k
        layers: list[nn.Module] = []
        for dilation in _DILATIONS:
            layers += [
                nn.Conv2d(channels if layers else self.k, channels, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Conv2d(channels, self.r, kernel_size=1))


class MLPDecoder(SystematicDecoder):
    """A network of three linear layers, n·p -> n·p -> k·p -> k·p with ReLU between, where p is the size of P.

    It reads all n outputs, those that did not arrive as zeros. Any k of them suffice; how good a reconstruction is
    depends on the patterns that the decoder was trained on. It has no exact parity target.

    Args:
        r: at least 1.

    Raises:
        ParityError: r = 0.
    """

    least_r = 1

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        size = math.prod(self.prediction_shape)
        self.network = nn.Sequential(
            nn.Linear(self.n * size, self.n * size),
            nn.ReLU(),
            nn.Linear(self.n * size, k * size),
            nn.ReLU(),
            nn.Linear(k * size, k * size),
        )

    def can_decode(self, available: Tensor) -> Tensor:
        """Any k outputs suffice: bool (G, n) -> bool (G,)."""
        return available.sum(1) >= self.k

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Ask the network: outputs (G, n, *P), zeros where none arrived -> (G, k, *P)."""
        outputs = torch.cat([base_outputs, parity_outputs], dim=1)
        return self.network(outputs.flatten(1)).view(base_outputs.shape)
