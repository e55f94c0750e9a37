"""Dealing a data set out as coding groups: which query goes where."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from parity.errors import ParityError


class GroupBatch(NamedTuple):
    """A batch of G coding groups."""

    queries: Tensor
    """float (G, k, *Q)"""
    targets: Tensor
    """(G, k, ...), true labels"""
    indices: Tensor
    """int64 (G, k), the queries' row indices in their data set"""


class GroupSampler:
    """Groups a data set differently every epoch, from a permutation that depends on (seed, epoch) alone.

    Queries left over that fill no group sit this epoch out. Under DDP every rank takes its own groups of one common
    permutation: none twice, and when shuffling, none lost but those that would give some ranks a group more than
    others in the last step.

    Args:
        rows: int64 (N,), the row indices of the data set that are dealt out.
        k: queries in a group.
        batch_size: groups in a batch, on each rank.
        seed: of the permutation.
        shuffle: group differently every epoch; otherwise every epoch has the groups of epoch 0, and no rank drops any.
        rank: this process's number among ``world_size``.
        most_batches: an epoch ends after so many batches on each rank, if the data lasts that long.

    Raises:
        ParityError: no group, or an empty batch or epoch.
    """

    def __init__(
        self,
        rows: Tensor,
        k: int,
        batch_size: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        most_batches: int | None = None,
    ) -> None:
        if k < 1:
            raise ParityError(f"a coding group has at least 1 query, not k = {k}.")
        if batch_size < 1:
            raise ParityError(f"batch_size counts coding groups and must be at least 1, not {batch_size}.")
        if most_batches is not None and most_batches < 1:
            raise ParityError(f"steps_per_epoch must be at least 1, not {most_batches}.")
        if len(rows) < k * (world_size if shuffle else 1):
            raise ParityError(
                f"{len(rows)} queries are too few for one coding group of k = {k}"
                + (f" on each of {world_size} devices." if world_size > 1 else ".")
            )
        self.rows, self.k, self.batch_size = rows, k, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        groups = len(rows) // k
        self.num_groups = groups // world_size if shuffle else len(range(rank, groups, world_size))
        self.common_batches = self._batches(groups // world_size)
        """Batches that every rank has, if no epoch is cut short."""
        if most_batches is not None:
            self.num_groups = min(self.num_groups, most_batches * batch_size)

    def __len__(self) -> int:
        """Batches of an epoch on this rank."""
        return self._batches(self.num_groups)

    @property
    def batch_sizes(self) -> list[int]:
        """Groups of each batch of an epoch on this rank.

        In training none has a single group unless all have: batch normalisation takes no statistics of one. A group
        that is left over joins the batch before it.
        """
        batches = len(self)
        return [self.batch_size] * (batches - 1) + [self.num_groups - (batches - 1) * self.batch_size] * (batches > 0)

    def _batches(self, groups: int) -> int:
        """Return how many batches are made of so many groups."""
        joins = self.shuffle and groups % self.batch_size == 1 and 1 < self.batch_size < groups
        return -(-groups // self.batch_size) - joins

    @property
    def own_rows(self) -> Tensor:
        """Row indices that groups of any epoch on this rank can hold: int64 (N,)."""
        if self.shuffle or self.world_size == 1:
            return self.rows
        return self.groups().flatten().sort().values

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def groups(self) -> Tensor:
        """Return this rank's groups of the current epoch: int64 (num_groups, k) row indices of the data set."""
        key = f"{self.seed} {self.epoch if self.shuffle else 0}"
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        groups = order[: len(order) // self.k * self.k].view(-1, self.k)
        return groups[self.rank :: self.world_size][: self.num_groups]
