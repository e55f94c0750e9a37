"""Service times of a pool's workers, seen from outside, for the simulator."""

import threading
import time
from collections.abc import Callable
from typing import Generic

from parity.serving.commands import P, Q
from parity.serving.pools import Faults, Listener, WorkerHealth, WorkerPool
from parity.serving.service_times import Trace


class TracedPool(Generic[Q, P]):
    """A pool that notes how long each task kept a worker, transport included.

    A worker has a task from when the pool reports it to be busy with it, which is looked up whenever tasks come and go,
    until its answer is there. So measured, times hold all that a simulator of such a pool leaves out. Of a batch only
    the first task counts.

    Args:
        pool: does the work.
        clock: returns seconds.
    """

    def __init__(self, pool: WorkerPool[Q, P], clock: Callable[[], float] = time.perf_counter) -> None:
        self._pool, self._clock = pool, clock
        self._lock = threading.Lock()
        self._begun: dict[int, tuple[int, float]] = {}
        self._times: list[list[float]] = [[] for _ in range(1 + max(worker.pool for worker in pool.health()))]

    @property
    def faults(self) -> Faults:
        """Faults of the workers."""
        return self._pool.faults

    def trace(self) -> Trace:
        """Return what was measured.

        Raises:
            ParityError: nothing was.
        """
        with self._lock:
            return Trace(tuple(tuple(times) for times in self._times))

    def start(self, listener: Listener[P]) -> None:
        """Start the workers."""
        self._pool.start(_Overheard(self, listener))

    def submit(self, task: int, pool: int, payload: Q, group: int) -> None:
        """Queue a task."""
        self._pool.submit(task, pool, payload, group)
        self._look()

    def abandon(self, task: int) -> None:
        """Take a task out of its queue."""
        self._pool.abandon(task)

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker."""
        return self._pool.health()

    def queued(self) -> list[int]:
        """Return how many tasks wait in the queue of each pool."""
        return self._pool.queued()

    def drain(self, timeout: float) -> bool:
        """Finish what is queued, then end the workers."""
        return self._pool.drain(timeout)

    def ended(self, task: int, answered: bool) -> None:
        """A worker is done with a task; its time counts if it was answered."""
        now = self._clock()
        with self._lock:
            known = self._begun.pop(task, None)
            if answered and known is not None:
                pool, begun = known
                self._times[pool].append(now - begun)
        self._look()

    def _look(self) -> None:
        """Note the tasks that workers have taken."""
        workers, now = self._pool.health(), self._clock()
        with self._lock:
            for worker in workers:
                if worker.task is not None and worker.task not in self._begun:
                    self._begun[worker.task] = worker.pool, now


class _Overheard(Generic[P]):
    """Passes on what a pool reports, and has it noted."""

    def __init__(self, pool: TracedPool, listener: Listener[P]) -> None:
        self._pool, self._listener = pool, listener

    def done(self, task: int, output: P) -> None:
        self._pool.ended(task, answered=True)
        self._listener.done(task, output)

    def failed(self, task: int, error: BaseException) -> None:
        self._pool.ended(task, answered=False)
        self._listener.failed(task, error)
