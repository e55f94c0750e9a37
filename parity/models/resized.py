"""A dense network asked for smaller queries, with predictions as large as those for whole ones."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

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
