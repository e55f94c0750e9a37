"""A frozen network that computes on k small queries at once, between reversible adapters.

Xu et al.: "RevMUX: Data Multiplexing with Reversible Adapters for Efficient LLM Batch Inference" (EMNLP 2024).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.errors import ParityError
from parity.grids import Grid


def bottleneck(shape: Sequence[int], hidden: int) -> nn.Module:
    """Make an adapter for any shape: two linear layers with ReLU between, (B, *S) -> (B, *S)."""
    size = torch.Size(shape).numel()
    return nn.Sequential(
        nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, size), nn.Unflatten(1, tuple(shape))
    )


def convolutions(shape: Sequence[int], hidden: int) -> nn.Module:
    """Make an adapter for images: two 3 x 3 convolutions with ReLU between, (B, C, H, W) -> (B, C, H, W)."""
    return nn.Sequential(
        nn.Conv2d(shape[0], hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, shape[0], 3, padding=1)
    )


class Coupling(nn.Module):
    """Mixes k parts, each in turn, with a function of the one before it, so that it can be undone exactly.

    o_1 = x_1 + F_1(x_k), then o_i = x_i + F_i(o_{i-1}): for k = 2 the reversible block of section 3.2.

    Args:
        k: parts, 2 or more.
        shape: S of a part.
        adapter: makes the functions F_i: called with S and
        hidden: how wide they are.

    Raises:
        ParityError: there is only one part.
    """

    def __init__(
        self, k: int, shape: Sequence[int], adapter: Callable[[Sequence[int], int], nn.Module], hidden: int
    ) -> None:
        super().__init__()
        if k < 2:
            raise ParityError("a reversible coupling mixes k = 2 parts or more, not one: choose a larger k.")
        self.functions = nn.ModuleList(adapter(shape, hidden) for _ in range(k))

    def forward(self, parts: Tensor) -> Tensor:
        """Mix: (B, k, *S) -> (B, k, *S)."""
        before, mixed = parts[:, -1], []
        for part, function in zip(parts.unbind(1), self.functions, strict=True):
            before = part + function(before)
            mixed.append(before)
        return torch.stack(mixed, dim=1)

    def undo(self, mixed: Tensor) -> Tensor:
        """Return what was mixed: (B, k, *S) -> (B, k, *S)."""
        later = [mixed[:, i] - self.functions[i](mixed[:, i - 1]) for i in range(1, len(self.functions))]
        return torch.stack([mixed[:, 0] - self.functions[0](later[-1]), *later], dim=1)


class RevMUX(nn.Module):
    """Predicts for the k cells of a ``GridEncoder``'s parity query with one frozen network, asked once.

    The cells are mixed by a reversible coupling; a network that starts from the base model and stays as it is
    (``parity_start=FrozenBaseModel()``) sees the grid of what comes out; its features are parted into k, the inverse of
    a coupling takes them apart, and a linear layer makes a prediction of each.

    What cannot be had at 1.10 x the base model's multiply-adds, and is different from the paper:

    - The first layers do not see each query on its own ("prefilling"): one layer for k queries is already too much.
    - The projection to a k-th of the width is the encoder's learned resampling: a dense one costs an MLP more than the
      base model itself.
    - The base model's layers have different widths, so the coupling whose inverse is used behind it has functions of
      its own, where the paper's transformers use those in front of it.
    - The projection back and the frozen linear classifier, with nothing between, are one linear layer here.
    - Batch normalisation keeps its frozen weights, and its statistics follow the mixed queries.

    Args:
        query_shape: shape Q of a parity query.
        prediction_shape: (k, *P).
        frozen: makes the network: called with Q, (``features``,).
        features: of the frozen network's output, divisible by k.
        adapter: makes the functions that mix cells: ``bottleneck`` or, for images, ``convolutions``.
        width: hidden width of the functions that mix cells, and
        feature_width: of those of features.
        arguments: the frozen network's keyword arguments.

    Raises:
        ParityError: k is 1, the queries are too small for k cells, the prediction is not of shape (k, *P), or the
            features cannot be parted into k.
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        frozen: Callable[..., nn.Module],
        features: int,
        adapter: Callable[[Sequence[int], int], nn.Module],
        width: int,
        feature_width: int,
        **arguments: Any,
    ) -> None:
        super().__init__()
        k, *shape = prediction_shape
        if not shape:
            raise ParityError(
                f"RevMUX makes k predictions, of shape (k, *P), and not what the decoder wants, of shape ({k},): "
                "give the code a PositionalDecoder."
            )
        if features % k:
            raise ParityError(
                f"RevMUX parts features into k = {k}, and {features} are not divisible by it: choose others."
            )
        self.grid = Grid(k, query_shape)
        self.mix = Coupling(k, self.grid.cell_shape, adapter, width)
        self.network = frozen(tuple(query_shape), (features,), **arguments)
        self.unmix = Coupling(k, (features // k,), bottleneck, feature_width)
        self.head = nn.Linear(features // k, torch.Size(shape).numel())
        self.prediction_shape = tuple(shape)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, k, *P)."""
        mixed = self.grid.join(self.mix(self.grid.split(queries)))
        features = self.network(mixed).relu().unflatten(1, (self.grid.k, -1))
        return self.head(self.unmix.undo(features)).unflatten(-1, self.prediction_shape)
