"""Sequences of token ids as queries: what is stored stays integers."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from parity.data.datamodule import GroupDataModule, TensorDataModule
from parity.data.loaders import Ids
from parity.errors import ParityError
from parity.vocabulary import check_ids


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
        check_ids(queries, self.VOCABULARY, where)
        return queries, targets


def check_vocabulary(data: GroupDataModule, split: str, vocabulary: int | None) -> None:
    """Refuse ids of a split that a network does not take, before any work.

    Args:
        data: of any kind; queries that are not ids are not looked at.
        split: 'train', 'val' or 'test'.
        vocabulary: the network's; None where it is not known.

    Raises:
        ParityError: see ``check_ids``.
    """
    loader = data.loader(split)
    scaling = loader.scaling
    if vocabulary is None or not isinstance(scaling, Ids):
        return
    if scaling.vocabulary is not None and scaling.vocabulary <= vocabulary:  # checked when the data was read
        return
    for _, queries, _ in loader.every_query():
        check_ids(queries, vocabulary, data.where(split))
