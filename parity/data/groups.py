"""Dealing a data set out as coding groups: which query goes where, and batches of them from tensors in memory."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from parity.errors import ParityError

# Steps whose batches are handed over together.
_STEPS_PER_BURST = 16


class GroupBatch(NamedTuple):
    """A batch of G coding groups."""

    queries: Tensor
    """float (G, k, *Q)"""
    targets: Tensor
    """(G, k, ...), true labels"""
    indices: Tensor
    """int64 (G, k), the queries' places in their data set"""


class GroupSampler:
    """Groups a data set anew every epoch, from a permutation that depends on (seed, epoch) alone.

    Queries left over that fill no group sit this epoch out. Under DDP every rank takes its own groups of one common
    permutation: none twice, and when shuffling, none lost but those that would give some ranks a group more than
    others in the last step.

    Args:
        rows: int64 (N,), the places in the data set that are dealt out.
        k: queries in a group.
        batch_size: groups in a batch, on each rank.
        seed: of the permutation.
        shuffle: group anew every epoch; otherwise every epoch has the groups of epoch 0, and no rank drops any.
        rank: this process's number among ``world_size``.

    Raises:
        ParityError: no group, or an empty batch.
    """

    def __init__(
        self, rows: Tensor, k: int, batch_size: int, seed: int, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> None:
        if k < 1:
            raise ParityError(f"a coding group has at least 1 query, not k = {k}.")
        if batch_size < 1:
            raise ParityError(f"batch_size counts coding groups and must be at least 1, not {batch_size}.")
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

    def __len__(self) -> int:
        """Batches of an epoch on this rank."""
        return -(-self.num_groups // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls it before each epoch."""
        self.epoch = epoch

    def groups(self) -> Tensor:
        """Return this rank's groups of the current epoch: int64 (num_groups, k) places in the data set."""
        key = f"{self.seed} {self.epoch if self.shuffle else 0}"
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
        order = self.rows[torch.randperm(len(self.rows), generator=generator)]
        groups = order[: len(order) // self.k * self.k].view(-1, self.k)
        return groups[self.rank :: self.world_size][: self.num_groups]


class Burst:
    """Several steps' batches, gathered one by one while they are iterated over.

    Lightning's own work around a batch costs as much as a step of a small network; handed a burst, it pays it once for
    all of its steps.

    Args:
        loader: where the batches come from.
        groups: int64 (G', k), the places of all the burst's queries.
    """

    def __init__(self, loader: "TensorLoader", groups: Tensor) -> None:
        self._loader, self._groups = loader, groups

    def __iter__(self) -> Iterator[GroupBatch]:
        for indices in self._groups.split(self._loader.sampler.batch_size):
            yield self._loader.batch(indices)


class TensorLoader:
    """Bursts of batches, gathered from tensors that lie on the device in their storage type.

    Args:
        queries: (N, *Q), in its storage type, on the device.
        targets: (N, ...), on the same device.
        sampler: which of them, in which order.
        scale: what a stored value is divided by.
        split: 'train', 'val' or 'test'.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler
    queries_are_fixed = True  # what a step sees is exactly what lies in the data set: no augmentation

    def __init__(self, queries: Tensor, targets: Tensor, sampler: GroupSampler, scale: float, split: str) -> None:
        self.queries, self.targets, self.sampler, self.scale, self.split = queries, targets, sampler, scale, split

    @property
    def num_rows(self) -> int:
        """Places in the data set: indices are below it."""
        return len(self.queries)

    @property
    def num_steps(self) -> int:
        """Batches of an epoch."""
        return len(self.sampler)

    def __len__(self) -> int:
        """Bursts of an epoch."""
        return -(-self.num_steps // _STEPS_PER_BURST)

    def __iter__(self) -> Iterator[Burst]:
        groups = self.sampler.groups().to(self.queries.device)
        for part in groups.split(self.sampler.batch_size * _STEPS_PER_BURST):
            if len(part):  # a rank may have no group at all
                yield Burst(self, part)

    def batch(self, indices: Tensor) -> GroupBatch:
        """Gather the groups of int64 (G, k) places."""
        rows = indices.flatten()
        queries = self._scaled(self.queries.index_select(0, rows))
        targets = self.targets.index_select(0, rows)
        return GroupBatch(
            queries.view(*indices.shape, *queries.shape[1:]), targets.view(*indices.shape, *targets.shape[1:]), indices
        )

    def every_query(self, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every query once, those included that fill no group: places int64 (B,), queries (B, *Q)."""
        for rows in self.sampler.rows.to(self.queries.device).split(batch_size):
            yield rows, self._scaled(self.queries.index_select(0, rows))

    def _scaled(self, queries: Tensor) -> Tensor:
        return queries.float().div_(self.scale)
