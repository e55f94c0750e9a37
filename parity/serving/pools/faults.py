"""Faults of workers, made on purpose, in every engine alike."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Generic

from parity.errors import ParityError
from parity.serving.commands import Q
from parity.serving.pools.engine import Handle


class PoolFaults(Generic[Q]):
    """What is wrong with the workers of a pool, by their indices; may be changed while they work.

    Processes and Ray actors that stall or die get the real signals; a thread holds its answer back, or lets go of it.
    An answer that is damaged is not finite, which the pool finds and treats as a failure; an answer that is wrong and
    looks right is not found.

    Args:
        lock: of the pool.
        handle: returns the worker that has an index now, or None.
    """

    def __init__(self, lock: threading.Condition, handle: Callable[[int], Handle[Q] | None]) -> None:
        self._lock, self._handle = lock, handle
        self._slowness: dict[int, float] = {}
        self._to_lose: Counter[int] = Counter()
        self._to_damage: Counter[int] = Counter()

    def stall(self, worker: int) -> None:
        """Stop a worker: neither what it has nor what it takes is answered until it is released."""
        if (handle := self._handle(worker)) is not None:
            handle.stall()

    def release(self, worker: int) -> None:
        """Let a stalled worker continue."""
        if (handle := self._handle(worker)) is not None:
            handle.release()

    def kill(self, worker: int) -> None:
        """Kill a worker with what it has."""
        if (handle := self._handle(worker)) is not None:
            handle.kill()

    def slow(self, worker: int, factor: float) -> None:
        """Make a worker take so many times as long for what it starts; 1 makes it well again.

        Raises:
            ParityError: a factor below 1.
        """
        if not factor >= 1:
            raise ParityError(f"a slow worker takes at least 1 times as long, not {factor}.")
        with self._lock:
            self._slowness[worker] = factor

    def lose(self, worker: int, answers: int = 1) -> None:
        """Lose a worker's next answers: it works, and nothing is heard of it."""
        with self._lock:
            self._to_lose[worker] += answers

    def damage(self, worker: int, answers: int = 1) -> None:
        """Damage a worker's next answers so that they are not predictions: not finite."""
        with self._lock:
            self._to_damage[worker] += answers

    def slowness(self, worker: int) -> float:
        """Return how many times as long a worker takes."""
        return self._slowness.get(worker, 1.0)

    def loses(self, worker: int) -> bool:
        """Return whether the worker's next answer is lost, and count it."""
        return _take(self._to_lose, worker)

    def damages(self, worker: int) -> bool:
        """Return whether the worker's next answer is damaged, and count it."""
        return _take(self._to_damage, worker)


def _take(left: Counter[int], worker: int) -> bool:
    taken = left[worker] > 0
    left[worker] -= taken
    return taken
