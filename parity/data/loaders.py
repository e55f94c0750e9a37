"""Loaders: the batches of coding groups that an epoch is made of, from tensors in memory or from files."""

import functools
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from parity.data.groups import GroupBatch, GroupSampler
from parity.errors import ParityError, cause

_MOST_WORKERS = 1024

_LONGEST_SOCKET = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path."""


class Scaling(nn.Module):
    """Turns stored queries into what networks see: (stored / divisor - mean) / std, in place where it can.

    Args:
        divisor: e.g. 255 for pixels.
        mean, std: one for each channel, (C,) of queries (C, H, W); by default 0 and 1.

    Raises:
        ParityError: they are not such numbers, or a divisor or deviation is 0.
    """

    def __init__(self, divisor: float, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        _check_scaling(divisor, mean, std)
        self.divisor, self.is_shifted = divisor, mean is not None or std is not None
        channels = len(mean or std or (0.0,))
        self.register_buffer("mean", torch.tensor(mean or (0.0,) * channels).view(-1, 1, 1) * divisor)
        self.register_buffer("std", torch.tensor(std or (1.0,) * channels).view(-1, 1, 1) * divisor)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, stored: Tensor) -> Tensor:
        """Scale queries (B, *Q), or if they are floats already, overwrite them."""
        queries = stored.float()
        return queries.sub_(self.mean).div_(self.std) if self.is_shifted else queries.div_(self.divisor)


def _check_scaling(divisor: object, mean: object, std: object) -> None:
    if not _is_number(divisor) or divisor == 0:
        raise ParityError(f"queries are divided by a number other than 0, e.g. 255 of pixels, not by {divisor!r:.60}.")
    for name, values in (("means", mean), ("standard deviations", std)):
        if values is None:
            continue
        if not isinstance(values, list | tuple) or not values or not all(map(_is_number, values)):
            raise ParityError(f"{name} are numbers, one for each channel, (0.5, 0.5, 0.5), not {values!r:.60}.")
        if name != "means" and 0 in values:
            raise ParityError(f"{name} cannot be 0, as one of {values!r:.60} is: leave constant channels as they are.")
    if isinstance(mean, list | tuple) and isinstance(std, list | tuple) and len(mean) != len(std):
        raise ParityError(f"there are {len(mean)} means and {len(std)} standard deviations: give each channel both.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


class Ids(nn.Module):
    """In place of a scaling: leaves ids of tokens what they are, as int64.

    Args:
        vocabulary: ids are below it; None where that is not known.
    """

    def __init__(self, vocabulary: int | None = None) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, stored: Tensor) -> Tensor:
        """Return ids (B, *Q), of any type that holds whole numbers, as int64."""
        return stored.long()


def are_ids(stored: Tensor) -> bool:
    """Return whether numbers are of a type that ids of tokens have, int32 or int64."""
    return stored.dtype in (torch.int32, torch.int64)


class GroupLoader:
    """Batches of coding groups, on a device. Subclasses make them.

    Args:
        targets: (N, ...), of the whole data set, on the device.
        sampler: which rows of it, in which order.
        scaling: of queries, on the same device.
        split: 'train', 'val' or 'test'.
        queries_are_fixed: what a step sees is exactly what lies in the data set: no augmentation.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(
        self, targets: Tensor, sampler: GroupSampler, scaling: nn.Module, split: str, queries_are_fixed: bool
    ) -> None:
        self.targets = targets if targets.is_floating_point() else targets.long()
        self.sampler, self.scaling, self.split = sampler, scaling, split
        self.queries_are_fixed = queries_are_fixed

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self.targets.device

    @property
    def stored_dtype(self) -> torch.dtype:
        """Type of queries before they are scaled."""
        raise NotImplementedError

    @property
    def num_rows(self) -> int:
        """Rows of the data set: indices are below it."""
        return len(self.targets)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.sampler)

    @property
    def common_steps(self) -> int:
        """Batches of an epoch that every rank has: when not shuffling, some may have one more."""
        return min(len(self), self.sampler.common_batches)

    def __iter__(self) -> Iterator[GroupBatch]:
        return self.batches()

    def batches(self, first: int = 0) -> Iterator[GroupBatch]:
        """Yield the batches of the sampler's current epoch, but for so many at its beginning."""
        raise NotImplementedError

    def again(self, number: int) -> GroupBatch | None:
        """Return a batch of the sampler's current epoch once more, by its number; None where it cannot be had."""
        return next(self.batches(number), None)

    def every_query(self, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield every query once as it is, also those that fill no group.

        Yields:
            row indices int64 (B,), queries (B, *Q), targets (B, ...).
        """
        raise NotImplementedError

    def own_rows(self) -> Self:
        """Return a loader whose ``every_query`` yields those alone that batches on this rank can hold."""
        own = copy(self)
        own.sampler = copy(self.sampler)
        own.sampler.rows = self.sampler.own_rows
        return own

    def first_query(self) -> Tensor:
        """Return the first query as a network sees it, (1, *Q)."""
        return next(self.every_query())[1][:1]

    def trial_groups(self, number: int = 2) -> GroupBatch:
        """Return so many groups to try a step on, all of the first query: no random number is drawn for them."""
        indices = self.sampler.rows[:1].to(self.device).repeat(number, self.sampler.k)
        query = self.first_query()
        return self._grouped(query.expand(indices.numel(), *query.shape[1:]).contiguous(), indices)

    def _grouped(self, queries: Tensor, indices: Tensor) -> GroupBatch:
        targets = self.targets.index_select(0, indices.flatten())
        return GroupBatch(
            queries.view(*indices.shape, *queries.shape[1:]), targets.view(*indices.shape, *targets.shape[1:]), indices
        )


class TensorLoader(GroupLoader):
    """Gathers batches from tensors that lie on the device in their storage type.

    Args:
        queries: (N, *Q), in its storage type, on the device.
        targets, sampler, scaling, split: as in ``GroupLoader``.
        augment: stored queries (B, *Q) -> (B, *Q), each in a random way of its own; None leaves them.
    """

    def __init__(
        self,
        queries: Tensor,
        targets: Tensor,
        sampler: GroupSampler,
        scaling: nn.Module,
        split: str,
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(targets, sampler, scaling, split, queries_are_fixed=augment is None)
        self.queries, self.augment = queries, augment

    @property
    def stored_dtype(self) -> torch.dtype:
        return self.queries.dtype

    def batches(self, first: int = 0) -> Iterator[GroupBatch]:
        groups = self.sampler.groups().to(self.device, non_blocking=True)
        for indices in groups.split(self.sampler.batch_sizes)[first : len(self)]:
            stored = self.queries.index_select(0, indices.flatten())
            yield self._grouped(self.scaling(stored if self.augment is None else self._augmented(stored)), indices)

    def _augmented(self, stored: Tensor) -> Tensor:
        assert self.augment is not None, "asked for"
        shape = stored.shape
        try:
            augmented = self.augment(stored)
        except Exception as error:  # of a user's own function
            what = f"the augmentation cannot be called with {tuple(shape)} queries"
            raise ParityError(f"{what} ({cause(error).rstrip('.')}).") from error
        if not isinstance(augmented, Tensor) or augmented.shape != shape:
            found = tuple(augmented.shape) if isinstance(augmented, Tensor) else f"a {type(augmented).__name__}"
            raise ParityError(f"the augmentation makes {found} of {tuple(shape)} queries: let it keep their shape.")
        return augmented

    def every_query(self, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rows in self.sampler.rows.to(self.device, non_blocking=True).split(batch_size):
            yield rows, self.scaling(self.queries.index_select(0, rows)), self.targets.index_select(0, rows)


class Reader(Protocol):
    """Reads queries from files; it is sent to worker processes."""

    def __call__(self, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
        """Read the query at a row index of the data set, in its storage type: (*Q).

        Args:
            place: the row index.
            epoch_key: (seed, epoch) that random augmentation depends on, together with the place; None for none.

        Raises:
            ParityError: the file cannot be read; it is named.
        """


class WorkerLoader(GroupLoader):
    """Reads batches from files in worker processes; no more than a few batches are in memory at a time.

    What a step sees depends on (seed, epoch, place) alone, not on the number of processes.

    Args:
        reader: how.
        targets, sampler, scaling, split: as in ``GroupLoader``.
        augmented: whether the reader augments the queries of batches.
        num_workers: processes; 0 reads in this one.

    Raises:
        ParityError: processes could not hand over what they read, for TMPDIR is too long a path.
    """

    def __init__(
        self,
        reader: Reader,
        targets: Tensor,
        sampler: GroupSampler,
        scaling: nn.Module,
        split: str,
        augmented: bool,
        num_workers: int,
    ) -> None:
        super().__init__(targets, sampler, scaling, split, queries_are_fixed=not augmented)
        self.reader, self.num_workers = reader, num_workers
        self._readers: _Readers | None = None
        """Those of the epoch before, while none is gone through."""
        if num_workers:
            _check_temporary_folder()

    @property
    def stored_dtype(self) -> torch.dtype:
        return self._first_stored().dtype

    def _first_stored(self) -> Tensor:
        # In this process: to start others for one file takes longer than to read it.
        return read_in_this_process(self.reader, int(self.sampler.rows[0]), None)

    def batches(self, first: int = 0) -> Iterator[GroupBatch]:
        parts = self.sampler.groups().split(self.sampler.batch_sizes)[first : len(self)]
        key = None if self.queries_are_fixed else (self.sampler.seed, self.sampler.epoch)
        for indices, stored in zip(parts, self._read(parts, key), strict=True):
            yield self._grouped(self.scaling(stored), indices.to(self.device, non_blocking=True))

    def every_query(self, batch_size: int = 100) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        parts = self.sampler.rows.split(batch_size)
        for part, stored in zip(parts, self._read(parts, None), strict=True):
            rows = part.to(self.device, non_blocking=True)
            yield rows, self.scaling(stored), self.targets.index_select(0, rows)

    def first_query(self) -> Tensor:
        return self.scaling(self._first_stored().unsqueeze(0).to(self.device))

    def _read(self, parts: Sequence[Tensor], epoch_key: tuple[int, int] | None) -> Iterator[Tensor]:
        readers = self._readers or _Readers(self.reader, self.num_workers, pin_memory=self.device.type == "cuda")
        self._readers, done = None, 0
        try:
            for done, stored in enumerate(readers.read(parts, epoch_key), 1):  # noqa: B007
                yield _readable(stored).to(self.device, non_blocking=True)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # an error of the reader's own
                raise
            reason = readers.last_words() or str(error)
            raise ParityError(
                f"a process that reads {self.split} data died: give the machine more memory, or read in fewer "
                f"processes, data.num_workers = {self.num_workers} now ({' '.join(reason.split())})."
            ) from error
        finally:
            if done == len(parts):  # else they may be at work on what nobody takes
                self._readers = readers


class _Unreadable(NamedTuple):
    """Why a process could not read a batch."""

    sentence: str
    trace: str | None = None
    """Of an error of a user's own transform."""

    def reason(self) -> RuntimeError | None:
        """Return what a traceback shows."""
        return None if self.trace is None else RuntimeError(f"in a process that reads:\n{self.trace}")


def _readable(stored: "Tensor | _Unreadable") -> Tensor:
    if isinstance(stored, _Unreadable):
        raise ParityError(stored.sentence) from stored.reason()
    return stored


def read_in_this_process(reader: Reader, place: int, epoch_key: tuple[int, int] | None) -> Tensor:
    """Read one query, (*Q), as the processes of a ``WorkerLoader`` do.

    Args:
        reader: how.
        place, epoch_key: see ``Reader``.

    Raises:
        ParityError: it cannot be read.
    """
    return _readable(_Reading(reader).__getitems__([epoch_key, place]))[0]


class _Parts:
    """What processes are asked to read in an epoch: keys and row indices."""

    of_epoch: Iterable[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.of_epoch)


class _Readers:
    """Processes that read parts of a data set, in every epoch the same ones.

    Args:
        reader, num_workers: of ``WorkerLoader``.
        pin_memory: put what is read where it can be copied to a GPU without a wait.
    """

    def __init__(self, reader: Reader, num_workers: int, pin_memory: bool) -> None:
        self._messages, of_worker = multiprocessing.Pipe(duplex=False)
        self._parts = _Parts()
        self._loader = DataLoader(
            _Reading(reader),
            batch_sampler=self._parts,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else it draws a seed for its workers from the global one
            worker_init_fn=functools.partial(_in_worker, of_worker),
            pin_memory=pin_memory,
        )

    def read(self, parts: Sequence[Tensor], epoch_key: tuple[int, int] | None) -> Iterator[Tensor | _Unreadable]:
        """Yield what is read for each part, or why it cannot be read."""
        self._parts.of_epoch = ([epoch_key, *part.flatten().tolist()] for part in parts)
        yield from _started(self._loader)

    def last_words(self) -> str | None:
        """Return what a process has sent before it died."""
        return str(self._messages.recv()) if self._messages.poll() else None


def _started(loader: DataLoader) -> Iterator[Any]:
    """Start a loader's processes, so that the death of one is noticed when its batch is waited for, in 5 seconds.

    By itself torch raises it wherever the main thread is at that moment, in the midst of a training step too.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler)
    return batches


def _in_worker(messages: Connection, worker: int) -> None:
    """Prepare a process that reads.

    Args:
        messages: to the parent.
        worker: its number.
    """
    _leave_signals_to_the_parent()

    def end(error: Exception, batch: object) -> NoReturn:
        try:
            messages.send(f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)

    # By itself a queue that cannot hand a batch over prints why and drops it, and the parent waits for ever.
    Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def check_workers(number: object) -> None:
    """Refuse a number of processes that read which makes no sense.

    Raises:
        ParityError: it is not a number from 0 to 1024.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or not 0 <= int(number) <= _MOST_WORKERS:
        raise ParityError(
            f"data.num_workers is 0 or more, not {number!r:.60}: give a whole number, at most {_MOST_WORKERS}."
        )


def _check_temporary_folder() -> None:
    """Refuse a temporary folder whose path is too long for the sockets by which processes hand batches over."""
    folder = tempfile.gettempdir()
    room = _LONGEST_SOCKET - len("/pymp-________/listener-________")
    if len(os.fsencode(folder)) > room:
        raise ParityError(
            f"processes that read data need a temporary folder whose path has at most {room} characters, not {folder}: "
            "set TMPDIR to a shorter one, or data.num_workers to 0."
        )


def _leave_signals_to_the_parent() -> None:
    """Undo the handlers that a forked process has from its parent: it is not a training run of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's way to end it
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)


class _Reading(Dataset):
    """What lives in the worker processes; what they cannot read they return as a sentence, to be raised in the parent.

    An exception raised in a worker would reach the user as its whole traceback.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __getitems__(self, key_and_places: list[Any]) -> Tensor | _Unreadable:
        epoch_key, *places = key_and_places
        try:
            return torch.stack([self.reader(place, epoch_key) for place in places])
        except ParityError as error:
            return _Unreadable(str(error))
        except Exception as error:  # of a user's own transform
            return _Unreadable(f"a query cannot be read ({cause(error).rstrip('.')}).", traceback.format_exc())


def _as_it_is(batch: Any) -> Any:  # a tensor or a sentence, not the list of DataLoader's type
    return batch
