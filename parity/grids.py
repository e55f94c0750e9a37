"""Grids: k small images side by side in one of a query's size, and how to part them again."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from parity.errors import ParityError


class Grid:
    """Cells of equal size in an image, one for each of k positions; blank cells and margins are zeros.

    Rows and columns are as equal as they can be: 1 x 2 for k = 2, 2 x 2 for k = 3 and 4, 3 x 3 for k = 7 to 9. Position
    i lies in row i // columns, column i % columns.

    Args:
        k: positions.
        shape: (C, H, W) of the image.

    Raises:
        ParityError: this is not an image, or its sides are too small for so many cells.
    """

    def __init__(self, k: int, shape: Sequence[int]) -> None:
        self.columns = math.isqrt(k - 1) + 1
        self.rows = -(-k // self.columns)
        if len(shape) != 3 or shape[1] < self.rows or shape[2] < self.columns:
            raise ParityError(
                f"a grid of k = {k} cells needs images (C, H, W) of {self.rows} x {self.columns} pixels or more, but "
                f"the shape here is {tuple(shape)}."
            )
        self.k, self.shape = k, tuple(shape)

    @property
    def cell_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of a cell."""
        channels, height, width = self.shape
        return channels, height // self.rows, width // self.columns

    def join(self, cells: Tensor) -> Tensor:
        """Put cells side by side: (..., k, C, h, w) -> (..., C, H, W)."""
        _, height, width = self.shape
        lead = cells.shape[:-4]
        blank = self.rows * self.columns - self.k
        grid = functional.pad(cells, (0, 0, 0, 0, 0, 0, 0, blank)).unflatten(-4, (self.rows, self.columns))
        image = grid.movedim((-5, -4), (-4, -2)).reshape(
            *lead, self.shape[0], self.rows * cells.shape[-2], self.columns * cells.shape[-1]
        )
        return functional.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))

    def split(self, images: Tensor) -> Tensor:
        """Part images into their cells: (..., C, H, W) -> (..., k, C, h, w)."""
        _, height, width = self.cell_shape
        used = images[..., : self.rows * height, : self.columns * width]
        grid = used.unflatten(-2, (self.rows, height)).unflatten(-1, (self.columns, width))
        return grid.movedim((-4, -2), (-5, -4)).flatten(-5, -4)[..., : self.k, :, :, :]
