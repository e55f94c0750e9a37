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
        small = functional.interpolate(
            queries.flatten(0, 1), (height // self.rows, width // self.columns), mode="bilinear", antialias=True
        )
        grid = small.view(-1, self.rows, self.columns, channels, height // self.rows, width // self.columns)
        lines = torch.cat(grid.unbind(2), dim=-1)
        return torch.cat(lines.unbind(1), dim=-2).unsqueeze(1)
