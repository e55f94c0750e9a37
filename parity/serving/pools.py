"""Pools of workers: what a driver needs of them, and one made of threads in this process."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from parity.errors import ParityError
from parity.serving.commands import P, Q
from parity.serving.faults import AnswerLost, ThreadFaults

Q_in = TypeVar("Q_in", contravariant=True)
P_in = TypeVar("P_in", contravariant=True)
P_out = TypeVar("P_out", covariant=True)


class Listener(Protocol[P_in]):
    """Who hears what became of the tasks; called from any thread."""

    def done(self, task: int, output: P_in) -> None:
        """A worker answered."""
        ...

    def failed(self, task: int, error: BaseException) -> None:
        """A worker could not answer."""
        ...


@dataclass(frozen=True)
class WorkerHealth:
    """What a worker is at.

    Attributes:
        worker: its number, over all pools.
        pool: which it belongs to.
        task: which it is busy with, also if that was abandoned, or None.
    """

    worker: int
    pool: int
    task: int | None


class WorkerPool(Protocol[Q_in, P_out]):
    """Workers in pools, each pool with a single queue that its idle workers pull from.

    A worker counts as busy until it has answered, even where nobody waits for the answer any more.
    """

    def start(self, listener: Listener[P_out]) -> None:
        """Begin to work, for one listener."""
        ...

    def submit(self, task: int, pool: int, payload: Q_in) -> None:
        """Queue a task."""
        ...

    def abandon(self, task: int) -> None:
        """Take a task out of its queue; a worker that has it goes through with it."""
        ...

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker."""
        ...

    def drain(self, timeout: float) -> bool:
        """Finish what is queued, then end the workers; return whether all ended within so many seconds."""
        ...


class ThreadPool(Generic[Q, P]):
    """Workers as threads of this process: for small services, demonstrations and tests.

    Args:
        work: what a worker of each pool does with a payload; called from several threads at once.
        workers: threads in each pool.
        faults: makes workers slow, for tests and demonstrations.

    Raises:
        ParityError: a pool without workers, or not a number of workers for each pool.
    """

    def __init__(
        self, work: Sequence[Callable[[Q], P]], workers: Sequence[int], faults: ThreadFaults | None = None
    ) -> None:
        if len(work) != len(workers) or min(workers, default=0) < 1:
            raise ParityError(
                f"each of the {len(work)} pools needs a number of workers of at least 1, not {list(workers)}."
            )
        self._work = list(work)
        self._faults = faults or ThreadFaults()
        self._changed = threading.Condition()
        self._queues: list[dict[int, Q]] = [{} for _ in workers]  # in order of arrival, and quick to abandon
        self._pools = [pool for pool, count in enumerate(workers) for _ in range(count)]
        self._tasks: list[int | None] = [None] * len(self._pools)
        self._threads: list[threading.Thread] = []
        self._draining = False

    def start(self, listener: Listener[P]) -> None:
        """Start the threads.

        Raises:
            ParityError: they run already.
        """
        if self._threads:
            raise ParityError("this pool serves already: make a pool for each server.")
        self._threads = [
            threading.Thread(target=self._run, args=(worker, listener), name=f"parity-worker-{worker}", daemon=True)
            for worker in range(len(self._pools))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: int, pool: int, payload: Q) -> None:
        """Queue a task."""
        with self._changed:
            self._queues[pool][task] = payload
            self._changed.notify_all()

    def abandon(self, task: int) -> None:
        """Take a task out of its queue; a worker that has it goes through with it."""
        with self._changed:
            for queue in self._queues:
                queue.pop(task, None)

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker."""
        with self._changed:
            return [WorkerHealth(worker, self._pools[worker], task) for worker, task in enumerate(self._tasks)]

    def drain(self, timeout: float) -> bool:
        """Finish what is queued, then end the threads; return whether all ended within so many seconds."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, worker: int, listener: Listener[P]) -> None:
        work = self._work[self._pools[worker]]
        while (job := self._next(worker)) is not None:
            task, payload = job
            try:
                output = self._faults.apply(worker, lambda payload=payload: work(payload))  # type: ignore[misc]
            except AnswerLost:
                continue
            except Exception as error:
                listener.failed(task, error)
            else:
                listener.done(task, output)

    def _next(self, worker: int) -> tuple[int, Q] | None:
        """Wait for the worker's next task; None when there is none and none will come."""
        queue = self._queues[self._pools[worker]]
        with self._changed:
            self._tasks[worker] = None
            while not queue:
                if self._draining:
                    return None
                self._changed.wait()
            task = next(iter(queue))
            self._tasks[worker] = task
            return task, queue.pop(task)
