"""Packed: the k queries as they are, in one message to the parity worker.

There is nothing to decode and no sum to take apart. What a parity model does with k whole queries at the cost of one
is its own affair: a small student for each (``PackedStudents``), or one network that binds them to keys
(``MIMONet``). It is what every code is to be held against: the same worker, the same multiply-adds, but k times the
bytes.
"""

from torch import Tensor

from parity.coders.base import Encoder


class PackedEncoder(Encoder):
    """Puts the k whole queries into one parity query of shape Q' = (k, *Q); all r parity queries are the same.

    Args:
        k: any.
        r: 1 or more.
        query_shape: any.

    Raises:
        ParityError: r is 0.
    """

    least_r = 1

    @property
    def parity_query_shape(self) -> tuple[int, ...]:
        """Q' = (k, *Q)."""
        return (self.k, *self.query_shape)

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, k, *Q)."""
        return queries.unsqueeze(1).expand(-1, self.r, *queries.shape[1:])
