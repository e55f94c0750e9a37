"""One network for all cells of a grid: a parity model that predicts for each of k small queries on its own."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from parity.errors import ParityError
from parity.grids import Grid


class PerCell(nn.Module):
    """Parts a parity query of ``GridEncoder`` into its cells and predicts for each with the same network.

    All positions train the same weights, and k cells of a k-th of a query's pixels cost a convolutional network what
    one query costs it.

    Args:
        query_shape: shape Q of a parity query.
        prediction_shape: (k, *P).
        cell_network: makes the network: called with a cell's shape, such as (C, h, w), P, and
        axes: along which cells lie, those of the encoder.
        arguments: the network's keyword arguments.

    Raises:
        ParityError: the queries are too small for k cells; or the prediction is not of shape (k, *P).
    """

    def __init__(
        self,
        query_shape: Sequence[int],
        prediction_shape: Sequence[int],
        cell_network: Callable[..., nn.Module],
        axes: Sequence[int] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        k, *shape = prediction_shape
        if not shape:  # classes, or the sides of a box, would pass for positions
            raise ParityError(
                f"PerCell makes k predictions, of shape (k, *P), and not what the decoder wants, of shape ({k},): "
                "give the code a PositionalDecoder."
            )
        self.grid = Grid(k, query_shape, axes)
        self.network = cell_network(self.grid.cell_shape, tuple(shape), **arguments)

    def forward(self, queries: Tensor) -> Tensor:
        """Predict: (B, *Q) -> (B, k, *P)."""
        cells = self.grid.split(queries)
        return self.network(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])
