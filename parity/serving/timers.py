"""Timers without a clock: what is to be done at which time, in that order."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, Protocol


class Passing(Protocol):
    """What a timer is about; once it is over, its timers mean nothing."""

    over: bool


class Timers:
    """A heap of actions. Those whose subject is over are dropped when their turn comes, not before."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[float, Any], None], Passing]] = []
        self._numbers = itertools.count()  # equal times keep their order, and subjects are never compared

    def add(self, time: float, action: Callable[[float, Any], None], subject: Passing) -> None:
        """Call ``action(now, subject)`` at a time; never, if the time is infinite."""
        if time != float("inf"):
            heapq.heappush(self._heap, (time, next(self._numbers), action, subject))

    def next_time(self) -> float | None:
        """Return when the next action is due, or None."""
        while self._heap and self._heap[0][3].over:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Do what is due by now, also what becomes due meanwhile."""
        while (time := self.next_time()) is not None and time <= now:
            _, _, action, subject = heapq.heappop(self._heap)
            action(now, subject)
