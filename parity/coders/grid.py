"""Grids of small images as parity queries: concatenation for any k, and resampling that is learned.

Concatenation is that of Kosaian, Rashmi, Venkataraman (SOSP 2019, section 4.2.3). A parity model of ``PerCell`` and
``PositionalDecoder`` predicts each cell on its own.
"""

import torch
from torch import Tensor, nn

from parity.coders.base import Encoder, Shape
from parity.grids import Grid


class GridEncoder(Encoder):
    """Makes the k images smaller and puts them into the cells of a grid; all r parity queries hold all of them.

    An image X of a channel becomes ``A X B^T``: bilinear resampling with antialiasing. Where r > 1, the pixels of
    parity query j look between those of the others, 1 / r of a pixel beside the one before.

    Args:
        k: any that the sides of a query have room for.
        r: 1 or more.
        query_shape: (C, H, W).

    Raises:
        ParityError: a query is not an image, or it is too small for k cells, or r is 0.
    """

    least_r = 1

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        self.grid = Grid(k, query_shape)
        _, height, width = self.grid.cell_shape
        for name, length, of in (("rows", height, query_shape[1]), ("columns", width, query_shape[2])):
            shifts = [(j + 0.5) / r - 0.5 if length < of else 0.0 for j in range(r)]
            matrices = torch.stack([resampling(length, of, shift) for shift in shifts])
            self.register_buffer(name, matrices, persistent=False)
        self.rows: Tensor
        self.columns: Tensor

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, r, C, H, W)."""
        cells = queries.unsqueeze(1) @ self.columns[:, None, None].mT  # (G, r, k, C, H, w)
        if self.rows.shape[1] < self.rows.shape[2]:  # else the height stays
            cells = self.rows[:, None, None] @ cells
        return self.grid.join(cells)


class LearnedGridEncoder(GridEncoder):
    """The same grid, with resampling matrices A (h x H) and B (w x W) that are learned, for each parity query its own.

    They begin as antialiased bilinear resampling; where a side keeps its length, as the height at k = 2, it is left as
    it is. What they learn is which parts of an image to look at how closely. A group costs k C (H W w + h H w)
    multiply-adds, or k C H W w where the height stays.
    """

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        for name in ("rows", "columns"):
            matrices = getattr(self, name)
            if matrices.shape[1] != matrices.shape[2]:
                delattr(self, name)
                setattr(self, name, nn.Parameter(matrices))


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
