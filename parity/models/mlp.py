"""The multilayer perceptron of the original parity-models work."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between, on flattened queries.

    Args:
        query_shape: shape Q of a query.
        prediction_shape: shape P of a prediction, e.g. ``(10,)``.
        hidden: widths of the hidden layers. (200, 100) is the original's.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"nn": "layers"}  # the original's names in its published files

    def __init__(
        self, query_shape: Sequence[int], prediction_shape: Sequence[int], hidden: Sequence[int] = (200, 100)
    ) -> None:
        super().__init__()
        widths = [math.prod(query_shape), *hidden]
        layers: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(prediction_shape)))
        self.prediction_shape = tuple(prediction_shape)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        return self.layers(queries.flatten(1)).view(queries.shape[0], *self.prediction_shape)

    def channel_axes(self) -> dict[str, tuple[str | None, ...]]:
        """Return which channels the axes of each weight run over; see ``parity.models.pruning``."""
        axes: dict[str, tuple[str | None, ...]] = {}
        linear = [name for name, layer in self.layers.named_children() if isinstance(layer, nn.Linear)]
        for before, name in zip([None, *linear], linear, strict=False):
            made = None if name == linear[-1] else name
            axes |= {f"layers.{name}.weight": (made, before), f"layers.{name}.bias": (made,)}
        return axes
