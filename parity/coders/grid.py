"""Grids of small queries as parity queries: concatenation for any k, with resampling that is fixed or learned.

Concatenation is that of Kosaian, Rashmi, Venkataraman (SOSP 2019, section 4.2.3). A parity model of ``PerCell`` and
``PositionalDecoder`` predicts each cell on its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape
from parity.grids import Grid

Resampling = Callable[[int, int, int], Tensor]
"""(length, of, r) -> matrices float32 (r, length, of), one for each parity query, that make ``length`` numbers of
``of`` in a row. An ``nn.Parameter`` is trained, a tensor is not."""

_NAMES = ("columns", "rows", "planes")
"""Of the matrices, from the last axis of cells backwards."""


@dataclass(frozen=True)
class Bilinear:
    """Bilinear resampling with antialiasing: for axes along which neighbours are alike, as in images and signals.

    Where r > 1, the numbers of parity query j look between those of the others, 1 / r of a number beside the one
    before.
    """

    def __call__(self, length: int, of: int, r: int) -> Tensor:
        """Make matrices; see ``Resampling``."""
        return torch.stack([resampling(length, of, (j + 0.5) / r - 0.5) for j in range(r)])


@dataclass(frozen=True)
class Orthogonal:
    """Random projections with orthonormal rows: for axes without an order, as features of tables have.

    Args:
        seed: of the projections.
    """

    seed: int = 0

    def __call__(self, length: int, of: int, r: int) -> Tensor:
        """Make matrices; see ``Resampling``."""
        generator = torch.Generator().manual_seed(self.seed)
        draws = torch.randn(r, of, length, generator=generator)
        return torch.linalg.qr(draws).Q.mT.contiguous()


@dataclass(frozen=True)
class Learned:
    """Resampling that is learned, for each parity query its own: which parts of a query to look at how closely.

    Args:
        start: the matrices that it begins with.
    """

    start: Resampling = Bilinear()

    def __call__(self, length: int, of: int, r: int) -> Tensor:
        """Make matrices; see ``Resampling``."""
        return nn.Parameter(self.start(length, of, r))


class GridEncoder(Encoder):
    """Makes the k queries smaller and puts them into the cells of a grid; all r parity queries hold all of them.

    An image X of a channel becomes ``A X B^T``, a row of numbers ``A x``, and so on along each axis of cells. An axis
    along which there is one cell, as the height of images at k = 2, is left as it is. With learned resampling of
    images (C, H, W), a group costs k C (H W w + h H w) multiply-adds, or k C H W w where the height stays.

    Args:
        k: any that a query has room for.
        r: 1 or more.
        query_shape: Q, of any rank: (L,), (C, L), (C, H, W), (C, D, H, W), ...
        resampling: what makes queries smaller, called for each axis of cells.
        axes: along which cells lie; by default those of ``parity.grids.Grid``.

    Raises:
        ParityError: a query is too small for k cells, or has no such axes, or r is 0.
    """

    least_r = 1

    def __init__(
        self,
        k: int,
        r: int,
        query_shape: Shape,
        resampling: Resampling = Bilinear(),
        axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(k, r, query_shape)
        self.grid = Grid(k, query_shape, axes)
        self._matrices: dict[int, str] = {}
        for axis, name in zip(self.grid.axes, reversed(_NAMES[: len(self.grid.axes)]), strict=True):
            length, of = self.grid.cell_shape[axis], self.query_shape[axis]
            if length == of:
                continue
            self._matrices[axis] = name
            matrices = resampling(length, of, r)
            if isinstance(matrices, nn.Parameter):
                self.register_parameter(name, matrices)
            else:
                self.register_buffer(name, matrices, persistent=False)

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *Q)."""
        cells = queries.unsqueeze(1)  # (G, 1, k, *Q), and (G, r, k, *cell) in the end
        for axis, name in reversed(self._matrices.items()):
            cells = _resampled(cells, getattr(self, name), axis - len(self.query_shape))
        return self.grid.join(cells.expand(-1, self.r, *cells.shape[2:]))


class LearnedGridEncoder(GridEncoder):
    """``GridEncoder`` with learned resampling, which begins as antialiased bilinear resampling."""

    def __init__(
        self,
        k: int,
        r: int,
        query_shape: Shape,
        resampling: Resampling = Learned(),
        axes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(k, r, query_shape, resampling, axes)


def _resampled(cells: Tensor, matrices: Tensor, axis: int) -> Tensor:
    """Multiply an axis with the matrices of each parity query.

    Args:
        cells: (G, 1 or r, k, *Q).
        matrices: (r, length, of).
        axis: of Q, counted from the end.

    Returns:
        (G, r, k, *Q) with another length of the axis.
    """
    if matrices.dtype != cells.dtype:
        matrices = matrices.to(cells.dtype)
    matrices = matrices.view(len(matrices), *(1,) * (cells.dim() - 4), *matrices.shape[1:])
    if axis == -2:
        return matrices @ cells
    return (cells.movedim(axis, -1) @ matrices.mT).movedim(-1, axis)


def resampling(length: int, of: int, shift: float = 0.0) -> Tensor:
    """Return the matrix of bilinear resampling with antialiasing, a triangle as wide as two of the new pixels.

    Args:
        length: pixels that are made.
        of: pixels, at least as many.
        shift: move what each new pixel looks at by this share of a new pixel.

    Returns:
        float32 (length, of), rows that sum to 1.
    """
    scale = of / length
    centres = (torch.arange(length, dtype=torch.float64) + 0.5 + shift) * scale
    distances = (torch.arange(of, dtype=torch.float64) + 0.5 - centres[:, None]).abs()
    weights = (1 - distances / scale).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()
