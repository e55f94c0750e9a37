"""Grids: k small queries side by side in one of a query's size, and how to part them again."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from parity.errors import ParityError

_MOST_AXES = 3


class Grid:
    """Cells of equal size in a query, one for each of k positions; blank cells and margins are zeros.

    Along two axes, rows and columns are as equal as they can be: 1 x 2 cells for k = 2, 2 x 2 for k = 3 and 4, 3 x 3
    for k = 7 to 9; along one there are k cells, along three 1 x 2 x 2 for k = 4. Positions run along the last axis
    first: in a grid of R rows and C columns position i lies in row i // C, column i % C.

    Args:
        k: positions.
        shape: Q of a query: an image (C, H, W), a signal (C, L), features or ids (L,), a volume (C, D, H, W), ...
        axes: of Q, along which cells lie, up to three. By default all but the first, which holds channels, or the only
            one; the last three where there are more.

    Raises:
        ParityError: there are no such axes, or they are too short for so many cells.
    """

    def __init__(self, k: int, shape: Sequence[int], axes: Sequence[int] | None = None) -> None:
        self.k, self.shape = k, tuple(shape)
        self.axes = _checked_axes(len(self.shape), axes)
        self.counts = _counts(k, len(self.axes))
        if any(self.shape[axis] < count for axis, count in zip(self.axes, self.counts, strict=True)):
            sides = " x ".join(map(str, self.counts))
            where = f"axis {self.axes[0]}" if len(self.axes) == 1 else f"axes {self.axes}"
            raise ParityError(
                f"a grid of k = {k} cells needs queries of {sides} numbers or more along {where}, but the shape here "
                f"is {self.shape}."
            )

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """Shape of a cell, e.g. (C, h, w)."""
        counts = dict(zip(self.axes, self.counts, strict=True))
        return tuple(length // counts.get(axis, 1) for axis, length in enumerate(self.shape))

    def join(self, cells: Tensor) -> Tensor:
        """Put cells side by side: (..., k, *cell) -> (..., *Q)."""
        rank = len(self.shape)
        lead = cells.dim() - rank - 1
        blank = math.prod(self.counts) - self.k
        grid = functional.pad(cells, (0, 0) * rank + (0, blank)).unflatten(lead, self.counts)
        order = list(range(lead))
        for axis in range(rank):  # each count goes before the axis that it is of
            order += [lead + self.axes.index(axis)] if axis in self.axes else []
            order += [lead + len(self.axes) + axis]
        counts = dict(zip(self.axes, self.counts, strict=True))
        sides = [length * counts.get(axis, 1) for axis, length in enumerate(self.cell_shape)]
        query = grid.permute(order).reshape(*cells.shape[:lead], *sides)
        margins = [(0, length - side) for length, side in zip(self.shape, sides, strict=True)]
        return functional.pad(query, tuple(number for margin in reversed(margins) for number in margin))

    def split(self, queries: Tensor) -> Tensor:
        """Part queries into their cells: (..., *Q) -> (..., k, *cell)."""
        rank, cell = len(self.shape), self.cell_shape
        lead = queries.dim() - rank
        for axis, count in zip(reversed(self.axes), reversed(self.counts), strict=True):
            used = queries.narrow(lead + axis, 0, count * cell[axis])
            queries = used.unflatten(lead + axis, (count, cell[axis]))
        first = [lead + axis + place for place, axis in enumerate(self.axes)]
        grid = queries.movedim(first, tuple(range(lead, lead + len(first))))
        return grid.flatten(lead, lead + len(first) - 1).narrow(lead, 0, self.k)


def _checked_axes(rank: int, axes: Sequence[int] | None) -> tuple[int, ...]:
    """Return axes counted from the first, in order."""
    if axes is None:
        axes = range(max(1, rank - _MOST_AXES), rank) if rank > 1 else range(rank)
    found = sorted({axis % rank for axis in axes if -rank <= axis < rank})
    if not 1 <= len(found) == len(tuple(axes)) <= _MOST_AXES:
        raise ParityError(
            f"cells lie along one to three different axes of a query, and a query here has {rank}: axes = "
            f"{tuple(axes)} are not such axes."
        )
    return tuple(found)


def _counts(k: int, axes: int) -> tuple[int, ...]:
    """Return how many cells lie along each axis, as equal as they can be, and the more along the last."""
    counts: list[int] = []
    for left in range(axes, 0, -1):
        count = next(count for count in range(1, k + 1) if count**left >= k)
        counts, k = [count, *counts], -(-k // count)
    return tuple(counts)
