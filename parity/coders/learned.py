"""Learned codes: encoders and decoders that are networks and are trained, beside or instead of a parity model.

Kosaian, Rashmi, Venkataraman: "Learning a Code: Machine Learning for Approximate Non-Linear Coded Computation",
arXiv 1806.01259.
"""

import math

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape, SystematicDecoder, check_parity_queries
from parity.errors import ParityError

# Of the 3x3 layers of ``ConvolutionalEncoder``; together every pixel sees 17 pixels in each direction.
_DILATIONS = (1, 1, 2, 4, 8, 1)


class MLPEncoder(Encoder):
    """A network of two linear layers, k·d -> k·d -> r·d with a ReLU between, where d = H·W.

    Every channel goes through it on its own: red with red.

    Args:
        k: queries in a coding group.
        r: at least 1.
        query_shape: (C, H, W).

    Raises:
        ParityError: r = 0, or a query that is not an image.
    """

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        check_parity_queries(self, r)
        height, width = _sides(self)
        pixels = height * width
        self.network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(k * pixels, k * pixels),
            nn.ReLU(),
            nn.Linear(k * pixels, r * pixels),
            nn.Unflatten(1, (r, height, width)),
        )

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, r, C, H, W)."""
        return _channel_by_channel(self.network, queries)


class ConvolutionalEncoder(Encoder):
    """A network of seven convolutions that sees the k queries as its input channels and keeps their sides.

    Six layers of 3x3 kernels with 20·k channels and dilations 1, 1, 2, 4, 8, 1, then a 1x1 layer to r channels, with
    ReLU between. Every channel of the queries goes through it on its own: red with red.

    Args:
        k: queries in a coding group.
        r: at least 1.
        query_shape: (C, H, W).

    Raises:
        ParityError: r = 0, or a query that is not an image.
    """

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        check_parity_queries(self, r)
        _sides(self)
        width = 20 * k
        layers: list[nn.Module] = []
        for dilation in _DILATIONS:
            layers += [
                nn.Conv2d(width if layers else k, width, kernel_size=3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            ]
        self.network = nn.Sequential(*layers, nn.Conv2d(width, r, kernel_size=1))

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, r, C, H, W)."""
        return _channel_by_channel(self.network, queries)


class MLPDecoder(SystematicDecoder):
    """A network of three linear layers, n·p -> n·p -> k·p -> k·p with ReLU between, where p is the size of P.

    It reads all n outputs, those that did not arrive as zeros. Any k of them suffice; how good a reconstruction is
    depends on the patterns that the decoder was trained on. It has no exact parity target.

    Args:
        k: queries in a coding group.
        r: at least 1.
        prediction_shape: P.

    Raises:
        ParityError: r = 0.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        check_parity_queries(self, r)
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


def _sides(encoder: Encoder) -> tuple[int, int]:
    """Return H and W of an encoder's queries, or raise where these are not images."""
    if len(encoder.query_shape) != 3:
        raise ParityError(
            f"{type(encoder).__name__} needs images (C, H, W), which it encodes channel by channel, but a query here "
            f"has shape {encoder.query_shape}."
        )
    _, height, width = encoder.query_shape
    return height, width


def _channel_by_channel(network: nn.Module, queries: Tensor) -> Tensor:
    """Apply a network (B, k, H, W) -> (B, r, H, W) to each channel: (G, k, C, H, W) -> (G, r, C, H, W)."""
    channels = queries.transpose(1, 2)
    return network(channels.flatten(0, 1)).unflatten(0, channels.shape[:2]).transpose(1, 2)
