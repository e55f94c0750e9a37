"""Replication: every query goes to several workers, all of which run the base model. With one worker each there is no
redundancy, and what is unavailable is lost.
"""

import torch
from torch import Tensor

from parity.coders.base import Decoder, Encoder, Shape, like
from parity.errors import ParityError


class ReplicationEncoder(Encoder):
    """Sends each query to 1 + r / k workers: all n = k + r run the base model, worker j gets query j mod k.

    Args:
        r: a multiple of k; 0 for no redundancy.

    Raises:
        ParityError: r is not a multiple of k.
    """

    takes_ids = True

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        self.copies = _copies(k, r)

    @property
    def parity_workers(self) -> int:
        return 0

    def forward(self, queries: Tensor) -> Tensor:
        """Return the copies: queries (G, k, *Q) -> (G, r, *Q)."""
        return queries[:, :0] if self.copies == 1 else torch.cat([queries] * (self.copies - 1), dim=1)

    def dispatch(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the base model everything: queries (G, k, *Q) -> (G, n, *Q) and (G, 0, *Q)."""
        self.check(queries)
        return torch.cat([queries, self(queries)], dim=1), queries[:, :0]


class ReplicationDecoder(Decoder):
    """Returns the first copy that arrived, bit for bit, each prediction on its own.

    The first k outputs count as the predictions, the others stand in for them: a prediction is hit, and has to be
    rebuilt, when its first copy is unavailable. Copies are alike, so counting another one as the first, or any loss of
    a copy as a hit, would give the same accuracies. A_d(e), defined for e below the number of copies, is A_a. Of a
    group that has lost all copies of a query, the others are still rebuilt: A_o(f) counts the default prediction for
    the lost one alone, and so is (1 - f^c)·A_a + f^c·(accuracy of the default prediction) with c copies.

    Args:
        r: a multiple of k; 0 for no redundancy.

    Raises:
        ParityError: r is not a multiple of k.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        self.copies = _copies(k, r)

    @property
    def tolerance(self) -> int:
        return self.copies - 1

    def can_decode(self, available: Tensor) -> Tensor:
        """One copy of each query suffices: bool (G, n) -> bool (G,)."""
        return self.rebuildable(available).all(1)

    def rebuildable(self, available: Tensor) -> Tensor:
        """One copy of a query is enough for it: bool (G, n) -> bool (G, k)."""
        return available.unflatten(1, (self.copies, self.k)).any(1)

    def rebuilt(self, available: Tensor) -> Tensor:
        """Those whose first copy is unavailable: bool (G, n) -> bool (G, k)."""
        return ~available[:, : self.k]

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Choose copies: base outputs (G, n, *P), parity outputs (G, 0, *P) -> (G, k, *P), NaN where none arrived."""
        outputs = base_outputs.unflatten(1, (self.copies, self.k))
        first = available.unflatten(1, (self.copies, self.k)).byte().argmax(1, keepdim=True)
        chosen = outputs.gather(1, like(first, outputs).expand_as(outputs[:, :1])).squeeze(1)
        return chosen.masked_fill(like(~self.rebuildable(available), chosen), torch.nan)


def _copies(k: int, r: int) -> int:
    if r % k:
        raise ParityError(
            f"replication does any k with r = 0 (no redundancy), {k}, {2 * k}, ..., one or more further copies of each "
            f"query, not k = {k} and r = {r}."
        )
    return 1 + r // k
