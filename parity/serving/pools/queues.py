"""The queue of one pool: tasks in order of arrival, taken in batches that hold one output of a group at most."""

from collections.abc import Iterator
from typing import Generic, NamedTuple

from parity.serving.commands import Q
from parity.serving.pools.protocol import Batching


class Queued(NamedTuple, Generic[Q]):
    """A task in the queue."""

    task: int
    payload: Q
    group: int
    since: float


class TaskQueue(Generic[Q]):
    """Tasks that wait for a worker; quick to abandon.

    Args:
        batching: how many are taken at once.
    """

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._tasks: dict[int, Queued[Q]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def put(self, queued: Queued[Q]) -> None:
        """Add a task at the end."""
        self._tasks[queued.task] = queued

    def drop(self, task: int) -> Queued[Q] | None:
        """Remove and return a task, if it is here."""
        return self._tasks.pop(task, None)

    def due(self) -> float:
        """Return when a batch is to be taken although it is not full; infinity while the queue is empty."""
        first = next(iter(self._tasks.values()), None)
        return float("inf") if first is None else first.since + self._batching.batch_wait

    def take(self, now: float) -> list[Queued[Q]]:
        """Remove and return the next batch; empty if there is none, or if it is not full and may wait."""
        batch = list(self._next_batch())
        if len(batch) < self._batching.max_batch_size and now < self.due():
            return []
        for queued in batch:
            del self._tasks[queued.task]
        return batch

    def take_all(self) -> list[Queued[Q]]:
        """Remove and return everything."""
        taken = list(self._tasks.values())
        self._tasks.clear()
        return taken

    def _next_batch(self) -> Iterator[Queued[Q]]:
        groups: set[int] = set()
        for queued in self._tasks.values():
            if len(groups) == self._batching.max_batch_size:
                return
            if queued.group not in groups:
                groups.add(queued.group)
                yield queued
