"""What a service counts: of its tasks, its groups and its answers."""

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from parity.serving.commands import Reason, Source

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Histogram:
    """Counts durations.

    Args:
        bounds: upper ends of all buckets but the last, in seconds, ascending.

    Attributes:
        counts: in each bucket, the last one without an upper end.
        sum: of all durations.
    """

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def total(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)


@dataclass
class Statistics:
    """Counts since the service began.

    Attributes:
        latencies: of answers, by source, from the query's arrival.
        failures: queries that got no answer, by reason.
        dropped: queries whose client hung up.
        sent: tasks sent, by pool.
        hedges: tasks that are second copies of a query.
        failed: tasks that a worker failed, or died with.
        abandoned: tasks that were cancelled as nobody waited for them any more.
        late: outputs that arrived for abandoned tasks.
        fill: the time from a group's first query until its parity queries were sent.
        partial: groups among these that were filled with blanks.
    """

    latencies: dict[Source, Histogram] = field(default_factory=lambda: {source: Histogram() for source in Source})
    failures: Counter[Reason] = field(default_factory=Counter)
    dropped: int = 0
    sent: Counter[int] = field(default_factory=Counter)
    hedges: int = 0
    failed: int = 0
    abandoned: int = 0
    late: int = 0
    fill: Histogram = field(default_factory=Histogram)
    partial: int = 0

    @property
    def share_rebuilt(self) -> float:
        """Share of the answers that were rebuilt."""
        answered = sum(histogram.total for histogram in self.latencies.values())
        return self.latencies[Source.REBUILT].total / answered if answered else 0.0
