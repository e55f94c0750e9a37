"""The time that something typically takes, followed as it changes."""

_STEP = 0.02


class RunningMedian:
    """Estimates the median of durations one by one: up a little where one is longer, down where it is shorter.

    A few that are much longer, as those of a stalled worker are, move it no further than others do.

    Attributes:
        value: the estimate, 0 before the first duration.
    """

    def __init__(self) -> None:
        self.value = 0.0

    def observe(self, duration: float) -> None:
        """Take a duration into account."""
        if not self.value:
            self.value = duration
        elif duration > self.value:
            self.value *= 1 + _STEP
        else:
            self.value /= 1 + _STEP
