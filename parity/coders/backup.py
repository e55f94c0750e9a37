"""Cheaper backup: every query also goes to a smaller network, whose prediction stands in for an unavailable one."""

import torch
from torch import Tensor

from parity.coders.base import Encoder, Shape, SystematicDecoder, like
from parity.errors import ParityError


class BackupEncoder(Encoder):
    """Parity query i is query i. The k parity workers all run the same smaller network: ``[network] * k``.

    Args:
        r: equal to k.

    Raises:
        ParityError: another r.
    """

    takes_ids = True

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        _check_backup(k, r)

    def forward(self, queries: Tensor) -> Tensor:
        """Return the queries: (G, k, *Q) -> (G, k, *Q)."""
        return queries


class BackupDecoder(SystematicDecoder):
    """Returns the smaller network's prediction where the base model's is unavailable.

    Each prediction is on its own: of a group that has lost both predictions of a query, the others are still rebuilt.

    Args:
        r: equal to k.

    Raises:
        ParityError: another r.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        _check_backup(k, r)

    @property
    def tolerance(self) -> int:
        return 1

    def parity_targets(self, predictions: Tensor) -> Tensor:
        """Return what a perfect backup predicts, the same as the base model: (G, k, *P) -> (G, k, *P)."""
        return predictions

    def can_decode(self, available: Tensor) -> Tensor:
        """One of the two predictions of each query suffices: bool (G, n) -> bool (G,)."""
        return (available[:, : self.k] | available[:, self.k :]).all(1)

    def rebuildable(self, available: Tensor) -> Tensor:
        """Where the smaller network's prediction arrived: bool (G, n) -> bool (G, k)."""
        return available[:, self.k :]

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Return the smaller network's predictions, (G, k, *P), NaN where they are unavailable."""
        return parity_outputs.masked_fill(like(~available[:, self.k :], parity_outputs), torch.nan)


def _check_backup(k: int, r: int) -> None:
    if r != k:
        raise ParityError(f"a backup does any k with r = k, one more prediction of each query, not k = {k}, r = {r}.")
