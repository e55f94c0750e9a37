"""Service times seen from outside a pool: what a worker was busy for, queueing left out."""

import pytest

from parity.errors import ParityError
from parity.serving.measuring.traced_pool import TracedPool
from parity.serving.pools import Listener, WorkerHealth, WorkerState


class ByHand:
    """A pool of one base and one parity worker, whose queues a test moves."""

    def __init__(self) -> None:
        self.busy: list[int | None] = [None, None]
        self.queues: list[list[int]] = [[], []]

    @property
    def faults(self) -> None:
        return None

    def start(self, listener: Listener) -> None:
        self.listener = listener

    def submit(self, task: int, pool: int, payload: object, group: int) -> None:
        self.queues[pool].append(task)
        self._take(pool)

    def abandon(self, task: int) -> None:
        for queue in self.queues:
            if task in queue:
                queue.remove(task)

    def health(self) -> list[WorkerHealth]:
        return [WorkerHealth(index, index, task, WorkerState.IDLE) for index, task in enumerate(self.busy)]

    def queued(self) -> list[int]:
        return [len(queue) for queue in self.queues]

    def drain(self, timeout: float) -> bool:
        return True

    def end(self, pool: int, *, answered: bool = True) -> None:
        task, self.busy[pool] = self.busy[pool], None
        assert task is not None
        self._take(pool)
        if answered:
            self.listener.done(task, None)
        else:
            self.listener.failed(task, RuntimeError())

    def _take(self, pool: int) -> None:
        if self.busy[pool] is None and self.queues[pool]:
            self.busy[pool] = self.queues[pool].pop(0)


class Deaf:
    def done(self, task: int, output: object) -> None: ...

    def failed(self, task: int, error: BaseException) -> None: ...


def test_times_are_those_with_a_worker_and_of_tasks_that_were_answered() -> None:
    now = [0.0]
    inner = ByHand()
    pool: TracedPool = TracedPool(inner, clock=lambda: now[0])
    pool.start(Deaf())
    for task in range(4):
        pool.submit(task, 0, None, group=task)
    pool.submit(4, 1, None, group=0)
    pool.abandon(2)
    now[0] = 1.0
    inner.end(0)  # task 0 took 1; task 1 begins
    now[0] = 3.0
    inner.end(0)  # task 1 took 2; task 2 was abandoned, 3 begins
    inner.end(1)  # 3
    now[0] = 9.0
    inner.end(0, answered=False)  # does not count
    assert pool.trace().pools == ((1.0, 2.0), (3.0,))


def test_a_pool_without_answers_has_no_trace() -> None:
    with pytest.raises(ParityError, match="needs service times"):
        TracedPool(ByHand()).trace()
