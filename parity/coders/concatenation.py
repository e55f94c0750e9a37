"""Concatenation: the k queries, each made smaller, side by side in one image of a query's size.

Kosaian, Rashmi, Venkataraman: "Parity Models: Erasure-Coded Resilience for Prediction Serving Systems" (SOSP 2019),
section 4.2.3 on image-specific encoders. The parity model is still asked for the sum of the predictions, so the
decoder is that of addition, ``LinearDecoder``.
"""

import torch
from torch import Tensor
from torch.nn import functional

from parity.coders.base import Encoder, Shape
from parity.errors import ParityError

# k -> rows and columns of the grid of small images.
_GRIDS = {2: (1, 2), 4: (2, 2)}


class ConcatenationEncoder(Encoder):
    """Puts k images into one: for k = 2 the left and the right half, for k = 4 the four quarters.

    Every image is resized bilinearly with antialiasing, channel by channel.

    Args:
        k: 2 or 4.
        r: 1.
        query_shape: (C, H, W), with H and W divisible by the rows and columns of the grid.

    Raises:
        ParityError: another k or r, or a query that is not an image of such sides.
    """

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        if k not in _GRIDS or r != 1:
            raise ParityError(f"concatenation does k = 2 or 4 with r = 1, not k = {k} and r = {r}.")
        self.rows, self.columns = _GRIDS[k]
        if len(self.query_shape) != 3 or self.query_shape[1] % self.rows or self.query_shape[2] % self.columns:
            raise ParityError(
                f"concatenation at k = {k} needs images (C, H, W) with H divisible by {self.rows} and W by "
                f"{self.columns}, but a query here has shape {self.query_shape}."
            )

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, C, H, W) -> parity queries (G, 1, C, H, W)."""
        channels, height, width = self.query_shape
        large = queries.flatten(0, 1)
        if half := large.dtype in (torch.float16, torch.bfloat16):  # a CPU has no kernel for these
            large = large.float()
        small = functional.interpolate(
            large, (height // self.rows, width // self.columns), mode="bilinear", antialias=True
        )
        if half:
            small = small.to(queries.dtype)
        grid = small.view(-1, self.rows, self.columns, channels, height // self.rows, width // self.columns)
        lines = torch.cat(grid.unbind(2), dim=-1)
        return torch.cat(lines.unbind(1), dim=-2).unsqueeze(1)


class StackingEncoder(Encoder):
    """Puts the k queries as they are behind one another along their first axis: a parity query is k times as large.

    Features (L,) become (k L,), images (C, H, W) become (k C, H, W): the parity model has a wider first layer. All r
    parity queries are the same. With k predictions it is MIMO (Havasi et al.: "Training Independent Subnetworks for
    Robust Prediction", ICLR 2021, section 2), asked k different queries, as it is trained, and not k times one.

    Args:
        r: 1 or more.
        query_shape: of at least one axis.

    Raises:
        ParityError: r is 0, or a query is a single number without an axis.
    """

    least_r = 1

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        if not self.query_shape:
            raise ParityError("StackingEncoder needs queries with an axis, (L,) or more, but here they are numbers.")

    @property
    def parity_query_shape(self) -> tuple[int, ...]:
        return (self.k * self.query_shape[0], *self.query_shape[1:])

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, k Q_0, ...)."""
        stacked = queries.flatten(1, 2).unsqueeze(1)
        return stacked.expand(-1, self.r, *stacked.shape[2:])
