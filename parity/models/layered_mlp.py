"""A multilayer perceptron whose layers can be called one by one, as predictive coding does."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

from parity.errors import ParityError, did_you_mean

_T = TypeVar("_T")

ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "leaky_relu": nn.LeakyReLU,
        "hard_tanh": nn.Hardtanh,
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
    }
)

WEIGHT_INITS: Mapping[str, Callable[[Tensor], Tensor] | None] = MappingProxyType(
    {
        "default": None,
        "xavier_normal": nn.init.xavier_normal_,
        "kaiming_normal": nn.init.kaiming_normal_,
        "orthogonal": nn.init.orthogonal_,
    }
)
"""What draws the weights of a linear layer, whose biases are 0 then; None is PyTorch's own way."""


class LayeredMLP(nn.Module):
    """Linear layers with an activation after each but the last.

    Args:
        query_shape: shape Q of a query.
        prediction_shape: shape P of a prediction.
        hidden: widths of the hidden layers.
        activation: a name in ``ACTIVATIONS``.
        weight_init: a name in ``WEIGHT_INITS``.
        resized_to: queries (C, H, W) are resized to images of this side first; None leaves them.

    Raises:
        ParityError: an unknown name, or queries that are not images and cannot be resized.

    Attributes:
        stages: the layers f_1, ..., f_L: (B, *Q) -> (B, width), ..., (B, width) -> (B, *P).
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        hidden: Sequence[int],
        activation: str = "leaky_relu",
        weight_init: str = "default",
        resized_to: int | None = None,
    ) -> None:
        super().__init__()
        make_activation, draw = _named(activation, ACTIVATIONS), _named(weight_init, WEIGHT_INITS)
        first: nn.Module = nn.Flatten()
        if resized_to is not None:
            if len(query_shape) != 3:
                raise ParityError(f"queries of shape {tuple(query_shape)} are not images, and cannot be resized.")
            query_shape = (query_shape[0], resized_to, resized_to)
            first = nn.Sequential(_Resize(resized_to), first)
        widths = [math.prod(query_shape), *hidden]
        stages: list[nn.Module] = []
        for width, next_width in itertools.pairwise(widths):
            stages.append(nn.Sequential(nn.Linear(width, next_width), make_activation()))
        last = nn.Linear(widths[-1], math.prod(prediction_shape))
        stages.append(nn.Sequential(last, nn.Unflatten(1, tuple(prediction_shape))))
        stages[0] = nn.Sequential(first, *stages[0].children())
        self.stages = nn.ModuleList(stages)
        if draw is not None:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    draw(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, *P)."""
        for stage in self.stages:
            queries = stage(queries)
        return queries


class _Resize(nn.Module):
    """Resizes images (B, C, H, W) to (B, C, side, side), between pixels linearly."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)


def _named(name: str, known: Mapping[str, _T]) -> _T:
    if name not in known:
        raise ParityError(f"there is no '{name}': {did_you_mean(name, known)}")
    return known[name]
