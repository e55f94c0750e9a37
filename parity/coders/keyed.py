"""Keyed sums: every query's pixels are put into an order of its own before they are added up.

Which query contributed what, which is lost in a plain sum, a parity model can read off the order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.coders.base import Encoder, Shape
from parity.errors import ParityError

Key = Callable[[Tensor, int], Tensor]
"""(indices int64 (H, W) of an image's pixels, number of the key) -> the same indices in the key's order. Key 0 leaves
them as they are."""


@dataclass(frozen=True)
class Permutation:
    """A fixed random order of all pixels: for networks that look at pixels one by one.

    Args:
        seed: of the orders.
    """

    seed: int = 0

    def __call__(self, indices: Tensor, number: int) -> Tensor:
        """Reorder; see ``Key``."""
        if number == 0:
            return indices
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return indices.flatten()[torch.randperm(indices.numel(), generator=generator)].view_as(indices)


@dataclass(frozen=True)
class Symmetry:
    """Flips and quarter turns: neighbours stay neighbours. Four keys, or of square images eight; then shifted ones."""

    def __call__(self, indices: Tensor, number: int) -> Tensor:
        """Reorder; see ``Key``."""
        height, width = indices.shape
        count = 8 if height == width else 4
        turn, symmetry = divmod(number, count)
        indices = Shift()(indices, turn)
        if symmetry >= 4:
            indices = indices.T
        dims = [dim for dim in (0, 1) if symmetry >> dim & 1]
        return indices.flip(dims)


@dataclass(frozen=True)
class Shift:
    """Moves an image round along rows and columns, each key by further ``steps`` of a side.

    Args:
        dims: sides that it is moved along, 0 (rows) and 1 (columns); (0,) shifts a spectrogram's frequencies.
        share: of a side that one key is moved further than the one before.
    """

    dims: tuple[int, ...] = (0, 1)
    share: float = 0.38

    def __call__(self, indices: Tensor, number: int) -> Tensor:
        """Reorder; see ``Key``."""
        shifts = [round(number * self.share * indices.shape[dim]) for dim in self.dims]
        return indices.roll(shifts, self.dims)


@dataclass(frozen=True)
class FeatureOrder:
    """A fixed random order of columns, the same in all rows: for embeddings (L, D), whose tokens stay where they are.

    Args:
        seed: of the orders.
    """

    seed: int = 0

    def __call__(self, indices: Tensor, number: int) -> Tensor:
        """Reorder; see ``Key``."""
        return indices[:, Permutation(self.seed)(torch.arange(indices.shape[1]), number)]


class KeyedSumEncoder(Encoder):
    """Adds up the queries of a group, each in its key's order; every parity query uses keys of its own.

    Parity query j is the sum over i of query i with its pixels in the order of key j k + i, so that query 0 of parity
    query 0 stays as it is. A channel keeps to itself.

    Args:
        k: any.
        r: 1 or more.
        query_shape: (..., H, W), or (D,), whose entries are taken for D rows of one pixel.
        key: the orders.

    Raises:
        ParityError: two keys give the same order, or r is 0.
    """

    least_r = 1

    def __init__(self, k: int, r: int, query_shape: Shape, key: Key = Permutation()) -> None:
        super().__init__(k, r, query_shape)
        height, width = query_shape[-2:] if len(query_shape) > 1 else (query_shape[0], 1)
        indices = torch.arange(height * width).view(height, width)
        orders = torch.stack([key(indices, number).flatten() for number in range(k * r)])
        if len(orders.unique(dim=0)) < len(orders):
            raise ParityError(
                f"{key} has fewer than k r = {k * r} different orders of {height} x {width} pixels: choose another key."
            )
        self.register_buffer("orders", orders.view(r, k, -1), persistent=False)
        self.orders: Tensor

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *Q)."""
        pixels = queries.reshape(queries.shape[0], self.k, -1, self.orders.shape[-1])  # (G, k, C, H W)
        sums: list[Any] = [
            sum(pixels[:, i].index_select(-1, order) for i, order in enumerate(orders)) for orders in self.orders
        ]
        return torch.stack(sums, dim=1).view(queries.shape[0], self.r, *self.query_shape)
