"""Faults of workers, made on purpose: one that stalls, one that is slow, one whose answer is lost."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class AnswerLost(Exception):
    """A worker has answered, and nobody hears it."""


class ThreadFaults:
    """What is wrong with the workers of a ``ThreadPool``, by their numbers; may be changed while they work.

    Args:
        clock: measures how long a task took, in seconds.
        sleep: lets a slow worker wait.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._changed = threading.Condition()
        self._stalled: set[int] = set()
        self._factors: dict[int, float] = {}
        self._to_lose: Counter[int] = Counter()

    def stall(self, worker: int) -> None:
        """Stop a worker: neither what it has nor what it takes is answered until it is released."""
        with self._changed:
            self._stalled.add(worker)

    def release(self, worker: int) -> None:
        """Let a stalled worker continue."""
        with self._changed:
            self._stalled.discard(worker)
            self._changed.notify_all()

    def slow(self, worker: int, factor: float) -> None:
        """Make a worker take so many times as long; 1 makes it well again."""
        with self._changed:
            self._factors[worker] = factor

    def lose(self, worker: int, answers: int = 1) -> None:
        """Lose a worker's next answers: it works, and nothing is heard of it."""
        with self._changed:
            self._to_lose[worker] += answers

    def apply(self, worker: int, work: Callable[[], T]) -> T:
        """Do a worker's work with its faults.

        Raises:
            AnswerLost: the answer is one to lose.
        """
        started = self._clock()
        result = work()
        with self._changed:
            self._changed.wait_for(lambda: worker not in self._stalled)
            factor = self._factors.get(worker, 1.0)
            lost = self._to_lose[worker] > 0
            self._to_lose[worker] -= lost
        if factor > 1:
            self._sleep((factor - 1) * (self._clock() - started))
        if lost:
            raise AnswerLost
        return result
