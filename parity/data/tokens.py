"""Sequences of token ids as queries: what is stored stays integers."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.data.datamodule import TensorDataModule
from parity.data.loaders import Ids
from parity.errors import ParityError


class TokensDataModule(TensorDataModule):
    """A data set of sequences of ids, int (N, L), or of ids and their attention mask, int (N, 2, L), held in memory.

    A subclass declares ``QUERY_SHAPE``, ``NUM_CLASSES`` and its ``VOCABULARY``, and defines how to ``load``; sequences
    of several lengths it pads to L.
    """

    VOCABULARY: ClassVar[int]
    """Ids are below it."""

    def divisor(self, stored: torch.dtype) -> float:
        """Return 1: ids are not scaled."""
        return 1.0

    def scaling(self, stored: torch.dtype = torch.int64) -> nn.Module:
        """Return what turns stored ids into int64."""
        return Ids(self.VOCABULARY)

    def _checked(self, loaded: tuple[Tensor, Tensor], where: str) -> tuple[Tensor, Tensor]:
        queries, targets = super()._checked(loaded, where)
        if queries.is_floating_point():
            raise ParityError(f"{where}: ids of tokens are integers, not {str(queries.dtype).removeprefix('torch.')}.")
        least, greatest = int(queries.min()), int(queries.max())
        if least < 0 or greatest >= self.VOCABULARY:
            raise ParityError(
                f"{where}: ids run from {least} to {greatest}, and {self.VOCABULARY} of them are numbered 0 to "
                f"{self.VOCABULARY - 1}."
            )
        return queries, targets
