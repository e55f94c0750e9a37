"""Any iterable of batches as the training loop's data."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from parity.data import GroupBatch, GroupDataModule, GroupLoader
from parity.errors import ParityError
from parity.training.loop.random_states import drawn_aside, random_states, set_random_states


class BatchLoader(GroupLoader):
    """Yields the batches of an iterable, which is iterated over once per epoch.

    An epoch that is resumed starts the iterable with the random generators as they were, so that a shuffling
    ``DataLoader`` draws the same order, and skips what was seen; validation leaves the generators as they are. An
    iterator cannot start over: every epoch, and a run that is resumed, takes what comes next.

    Args:
        batches: of (queries, targets); of groups (G, k, *Q), (G, k, ...) for a coded model, else (B, *Q), (B, ...).
        split: 'train' or 'val'.
        grouped: whether batches are of groups.
        num_steps: batches of an epoch.
        device: where they are put.
    """

    def __init__(self, batches: Iterable[Any], split: str, grouped: bool, num_steps: int, device: torch.device) -> None:
        self.source, self.split, self.grouped = batches, split, grouped
        self.queries_are_fixed = False
        self.sampler: Any = getattr(batches, "sampler", None)  # Lightning sets its epoch
        self._num_steps, self._device = num_steps, device
        self.epoch_start: dict[str, Any] | None = None
        """States of the random generators when this epoch's batches began."""

    @property
    def device(self) -> torch.device:
        return self._device

    def __len__(self) -> int:
        return self._num_steps

    @property
    def common_steps(self) -> int:
        return self._num_steps

    def batches(self, first: int = 0) -> Iterator[GroupBatch]:
        batches = self._after(first) if self.split == "train" else drawn_aside(self.source)
        for number in range(first, self._num_steps):
            batch = next(batches, None)
            if batch is None:
                raise ParityError(
                    f"the {self.split} data ended after {number} of {self._num_steps} batches: hand over a list or a "
                    "DataLoader, which can be gone through again, or set steps_per_epoch lower."
                )
            yield as_groups(batch, self.grouped, self._device)

    def _after(self, first: int) -> Iterator[Any]:
        """Return an epoch's batches but for the first ones, drawn as if those were, too."""
        now = random_states()
        if first and self.epoch_start is not None:
            set_random_states(self.epoch_start)
        else:
            self.epoch_start = now
        batches = iter(self.source)
        if first and batches is not self.source:
            for _ in itertools.islice(batches, first):
                pass
            set_random_states(now)
        return batches


def as_groups(batch: Any, grouped: bool, device: torch.device | str = "cpu") -> GroupBatch:
    """Make coding groups of a batch (queries, targets); without ``grouped``, of one query each.

    Raises:
        ParityError: it is not such a pair.
    """
    if not isinstance(batch, tuple | list) or len(batch) < 2 or len(batch[0]) != len(batch[1]):
        raise ParityError(f"a batch is a pair (queries, targets) of the same length, not {type(batch).__name__}.")
    queries, targets = (torch.as_tensor(part).to(device, non_blocking=True) for part in batch[:2])
    if not grouped:
        queries, targets = queries.unsqueeze(1), targets.unsqueeze(1)
    return GroupBatch(queries, targets, torch.arange(queries.shape[0] * queries.shape[1]).view(queries.shape[:2]))


def first_batch(batches: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """Return the first batch, and all batches, that one included.

    Raises:
        ParityError: there is none.
    """
    states = random_states()
    iterator = iter(batches)
    batch = next(iterator, None)
    if batch is None:
        raise ParityError("the data is empty: hand over at least one batch to train on.")
    if iterator is batches:
        return batch, itertools.chain([batch], iterator)
    set_random_states(states)
    return batch, batches


class BatchData(GroupDataModule):
    """Iterables of batches instead of a data set.

    Args:
        train, val: what to train on and to validate on; None for no validation.
        k: queries in a group; None where batches are of single queries.
        steps_per_epoch: batches of an epoch, where the data lasts longer.

    Raises:
        ParityError: the length of an epoch is unknown.
    """

    def __init__(
        self, train: Iterable[Any], val: Iterable[Any] | None, k: int | None, steps_per_epoch: int | None
    ) -> None:
        super().__init__(k or 1, batch_size=1, steps_per_epoch=steps_per_epoch)
        self._data = {"train": train} if val is None else {"train": train, "val": val}
        self._grouped = k is not None
        self._steps = {"train": _steps(train, steps_per_epoch, "the data has no length: set steps_per_epoch")}
        if val is not None:
            self._steps["val"] = _steps(val, None, "val_data has no length: hand over a list or a DataLoader")
        self.validation_splits = () if val is None else ("val",)

    def loader(self, split: str) -> BatchLoader:
        return BatchLoader(self._data[split], split, self._grouped, self._steps[split], self.target_device())


def _steps(batches: Iterable[Any], most: int | None, without: str) -> int:
    if most is not None and most < 1:
        raise ParityError(f"steps_per_epoch must be at least 1, not {most}.")
    try:
        length = len(batches)  # type: ignore[arg-type]  # of a Sized one
    except TypeError:  # an iterator's, or a DataLoader's of a stream
        length = None
    if length is None and most is None:
        raise ParityError(f"{without}.")
    if length == 0:
        raise ParityError("the data is empty: hand over at least one batch to train and validate on.")
    return min(filter(None, (length, most)))
