"""The pool of threads: one queue, workers that are busy until they have answered, faults on purpose."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parity.errors import ParityError
from parity.serving.faults import AnswerLost, ThreadFaults
from parity.serving.pools import ThreadPool

SOON = 60.0  # generous: what is waited for comes at once, on a machine that is not busy


class Heard:
    """A listener that queues what it hears."""

    def __init__(self) -> None:
        self.reports: queue.Queue[tuple[int, object]] = queue.Queue()

    def done(self, task: int, output: object) -> None:
        self.reports.put((task, output))

    def failed(self, task: int, error: BaseException) -> None:
        self.reports.put((task, error))

    def next(self) -> tuple[int, object]:
        return self.reports.get(timeout=SOON)


def double(number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@contextmanager
def serving(workers: list[int], faults: ThreadFaults | None = None) -> Iterator[tuple[ThreadPool[int, int], Heard]]:
    heard = Heard()
    pool = ThreadPool([double] * len(workers), workers, faults)
    pool.start(heard)
    yield pool, heard
    assert pool.drain(SOON)


def give_work_to(pool: ThreadPool[int, int], worker: int) -> int:
    """Submit tasks, whose numbers are their payloads, until a stalled worker has one; return that."""
    task = 0
    while (stuck := pool.health()[worker].task) is None:
        pool.submit(task, 0, task)
        task += 1
        time.sleep(0.001)
    return stuck


def test_tasks_are_answered_and_failures_reported_by_number() -> None:
    with serving([1]) as (pool, heard):
        pool.submit(0, 0, 4)
        assert heard.next() == (0, 8)
        pool.submit(1, 0, -1)
        task, error = heard.next()
        assert task == 1
        assert isinstance(error, ValueError)
        pool.submit(2, 0, 5)
        assert heard.next() == (2, 10)


def test_a_stalled_worker_is_busy_and_the_other_one_takes_the_queue() -> None:
    faults = ThreadFaults()
    faults.stall(0)
    with serving([2], faults) as (pool, heard):
        stuck = give_work_to(pool, worker=0)
        pool.abandon(stuck)
        pool.submit(-1, 0, 3)
        while (heard_of := heard.next())[0] != -1:
            assert heard_of[0] != stuck
        assert pool.health()[0].task == stuck
        faults.release(0)
        assert heard.next() == (stuck, 2 * stuck)


def test_an_abandoned_task_leaves_the_queue() -> None:
    faults = ThreadFaults()
    faults.stall(0)
    with serving([1], faults) as (pool, heard):
        pool.submit(0, 0, 1)
        pool.submit(1, 0, 1)
        pool.submit(2, 0, 1)
        pool.abandon(1)
        faults.release(0)
        assert [heard.next()[0], heard.next()[0]] == [0, 2]


def test_pools_do_not_take_each_others_tasks() -> None:
    faults = ThreadFaults()
    faults.stall(0)
    with serving([1, 1], faults) as (pool, heard):
        pool.submit(0, 0, 1)
        pool.submit(1, 1, 1)
        assert heard.next()[0] == 1
        assert pool.health()[0].pool == 0
        faults.release(0)
        assert heard.next()[0] == 0


def test_a_lost_answer_is_not_heard_and_the_worker_works_again() -> None:
    faults = ThreadFaults()
    faults.lose(0)
    with serving([1], faults) as (pool, heard):
        pool.submit(0, 0, 1)
        pool.submit(1, 0, 1)
        assert heard.next()[0] == 1
    assert heard.reports.empty()


def test_a_slow_worker_takes_its_factor_times_as_long() -> None:
    slept: list[float] = []
    ticks = iter([0.0, 2.0, 10.0, 11.0])
    faults = ThreadFaults(clock=lambda: next(ticks), sleep=slept.append)
    faults.slow(0, 8)
    assert faults.apply(0, lambda: "answer") == "answer"
    faults.slow(0, 1)
    faults.apply(0, lambda: "answer")
    assert slept == [14.0]


def test_a_lost_answer_is_lost_once() -> None:
    faults = ThreadFaults()
    faults.lose(3)
    with pytest.raises(AnswerLost):
        faults.apply(3, lambda: None)
    faults.apply(3, lambda: None)


def test_draining_finishes_what_is_queued_and_reports_a_worker_that_hangs() -> None:
    faults = ThreadFaults()
    heard = Heard()
    pool = ThreadPool([double], [1], faults)
    faults.stall(0)
    pool.start(heard)
    pool.submit(0, 0, 1)
    pool.submit(1, 0, 1)
    assert not pool.drain(0.01)
    faults.release(0)
    assert pool.drain(SOON)
    assert [heard.next()[0], heard.next()[0]] == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread in pool._threads]


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(ParityError, match="at least 1"):
        ThreadPool([double], [0])
    with pytest.raises(ParityError, match="at least 1"):
        ThreadPool([double, double], [1])
