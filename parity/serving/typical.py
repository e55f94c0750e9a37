"""The time that something typically takes, followed as it changes."""

import statistics

_STEP = 0.02
_FIRST = 5  # durations whose median is where it starts: one alone may be far from all others


class RunningMedian:
    """Estimates the median of durations one by one: up a little where one is longer, down where it is shorter.

    It starts from the median of the first few. A few that are much longer, as those of a stalled worker are, move it no
    further than others do.

    Attributes:
        value: the estimate, 0 before the first duration.
    """

    def __init__(self) -> None:
        self.value = 0.0
        self._first: list[float] = []

    def observe(self, duration: float) -> None:
        """Take a duration into account."""
        if len(self._first) < _FIRST:
            self._first.append(duration)
            self.value = statistics.median(self._first)
        elif duration > self.value:
            self.value *= 1 + _STEP
        else:
            self.value /= 1 + _STEP

    def outlasts(self, age: float) -> None:
        """Take into account something that has taken so long and is not waited for any longer.

        Of one that is not older than the estimate nothing is known; one that is, is longer.
        """
        if age > self.value:
            self.observe(age)
