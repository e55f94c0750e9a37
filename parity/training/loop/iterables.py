"""Any iterable of batches as the training loop's data."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from parity.data import GroupBatch, GroupDataModule, GroupLoader
from parity.errors import ParityError, cause
from parity.training.loop.batch_form import BatchForm
from parity.training.loop.random_states import drawn_aside, random_states, set_random_states


class BatchLoader(GroupLoader):
    """Deals out the batches of an iterable, which is iterated over in every epoch.

    An epoch that is resumed begins it with the random generators as they were, so that a shuffling ``DataLoader`` draws
    the same order, and skips what was seen; validation leaves the generators as they are. An iterator cannot be
    restarted: every epoch, and a run that is resumed, takes what comes next.

    Args:
        batches: of (queries, targets); of groups (G, k, *Q), (G, k, ...) for a coded model, else (B, *Q), (B, ...).
        split: 'train' or 'val'.
        form: what batches must be.
        num_steps: batches of an epoch.
        device: where they are put.
    """

    def __init__(
        self, batches: Iterable[Any], split: str, form: BatchForm, num_steps: int, device: torch.device
    ) -> None:
        self.source, self.split, self.form = batches, split, form
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
            groups = self.form.groups(batch, f"batch {number + 1} of the {self.split} data", self._device)
            if self.split == "train" and len(groups.queries) < self.form.least:
                raise ParityError(
                    f"batch {number + 1} of the train data has one query, which batch normalisation cannot be trained "
                    "on: use drop_last=True or another batch size."
                )
            yield groups

    def again(self, number: int) -> GroupBatch | None:
        if self.epoch_start is None:
            return None
        set_random_states(self.epoch_start)
        batches = iter(self.source)
        if batches is self.source:
            return None
        batch = next(itertools.islice(batches, number, None))
        return self.form.groups(batch, f"batch {number + 1} of the {self.split} data", self._device)

    def _after(self, first: int) -> Iterator[Any]:
        """Return an epoch's batches from this number on, drawn as if those before were, too."""
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


def first_batch(batches: Iterable[Any], name: str) -> tuple[Any, Iterable[Any]]:
    """Return the first batch, and the batches with it as if none had been drawn.

    Args:
        batches: where from.
        name: of them, for messages.

    Raises:
        ParityError: these are not batches, there is none, or drawing it raises an error.
    """
    if isinstance(batches, str | bytes | dict) or not isinstance(batches, Iterable):
        raise ParityError(
            f"{name} is a datamodule or an iterable of batches, as a DataLoader is, not a {type(batches).__name__}."
        )
    states = random_states()
    try:
        iterator = iter(batches)
        batch = next(iterator, None)
    except ParityError:
        raise
    except Exception as error:  # of a user's own objects
        raise ParityError(f"the first batch of {name} cannot be drawn ({cause(error).rstrip('.')}).") from error
    if batch is None:
        raise ParityError(f"there are no batches in {name}.")
    if iterator is batches:
        return batch, itertools.chain([batch], iterator)
    set_random_states(states)
    return batch, batches


class BatchData(GroupDataModule):
    """Iterables of batches instead of a data set.

    Args:
        train, val: what to train on and to validate on; None for no validation.
        form: what batches must be.
        steps_per_epoch: batches of an epoch, where the data lasts longer.

    Raises:
        ParityError: the length of an epoch is unknown.
    """

    def __init__(
        self, train: Iterable[Any], val: Iterable[Any] | None, form: BatchForm, steps_per_epoch: int | None
    ) -> None:
        super().__init__(form.k or 1, batch_size=1, steps_per_epoch=steps_per_epoch)
        self._data = {"train": train} if val is None else {"train": train, "val": val}
        self.form = form
        self._steps = {"train": _steps(train, steps_per_epoch, "the data has no length: give steps_per_epoch")}
        if val is not None:
            self._steps["val"] = _steps(val, None, "val_data has no length: hand over a list or a DataLoader")
        self.validation_splits = () if val is None else ("val",)

    def loader(self, split: str) -> BatchLoader:
        return BatchLoader(self._data[split], split, self.form, self._steps[split], self.target_device())

    def need_two(self) -> None:
        """Refuse batches of one query, or group, where training draws one."""
        self.form = replace(self.form, least=2)

    def has_last_batch_of_one(self) -> bool:
        """Return whether the length of the training data shows that the last batch of an epoch has one query."""
        data, steps = self._data["train"], self._steps["train"]
        if isinstance(data, list | tuple):
            return any(len(batch[0]) == 1 for batch in data[:steps])
        if not isinstance(data, DataLoader) or data.drop_last or not data.batch_size:
            return False
        if isinstance(data.dataset, IterableDataset) or steps < len(data):  # a stream's length may not be known
            return False
        sampler: Any = data.sampler
        return len(sampler) % data.batch_size == 1


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
