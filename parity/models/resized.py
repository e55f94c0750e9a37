"""Networks asked for smaller queries than they are given, or whose predictions are made larger."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Resized(nn.Module):
    """Resamples a network's predictions (C, *s) linearly to (C, *S).

    Args:
        network: (B, *Q) -> (B, C, *s), with as many axes s as there are S.
        prediction_shape: (C, *S), of one, two or three axes S.
    """

    def __init__(self, network: nn.Module, prediction_shape: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.sides = tuple(prediction_shape[1:])

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, C, *S)."""
        return functional.interpolate(self.network(queries), self.sides, mode=_MODES[len(self.sides)])


class Downsampled(nn.Module):
    """A network that sees images of a smaller side: the means over what each of its pixels stands for.

    Args:
        query_shape: shape Q of a query, (C, H, W).
        prediction_shape: shape P of a prediction.
        inner: makes the network: called with (C, side, side), P, and
        side: of the smaller images.
        arguments: its keyword arguments.

    Raises:
        ParityError: the queries are not images, or not larger.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        inner: Callable[..., nn.Module],
        side: int,
        **arguments: Any,
    ) -> None:
        super().__init__()
        if len(query_shape) != 3 or not 1 <= side < min(query_shape[1:]):
            raise ParityError(f"queries of shape {tuple(query_shape)} are not images (C, H, W) larger than {side}.")
        self.network = inner((query_shape[0], side, side), prediction_shape, **arguments)
        self.side = side

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.network(functional.adaptive_avg_pool2d(queries, self.side))
