"""What became of the queries of a load."""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from parity.serving.commands import Source
from parity.serving.measuring.histogram import Histogram

_RECENT = 5.0  # seconds over which the rate is averaged


class Record:
    """Counts answers by source, failures by reason, and how late the queries were sent.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.by_source: dict[str, Histogram] = {source.value: Histogram() for source in Source}
        self.failures: Counter[str] = Counter()
        self.lag = Histogram()
        self.sent = 0
        self._clock = clock
        self._recent: deque[float] = deque()

    def send(self, lag: float) -> None:
        """A query was sent, so many seconds after it was due."""
        self.sent += 1
        self.lag.record(lag)

    def answer(self, source: str, latency: float) -> None:
        """A query was answered, so many seconds after it was due."""
        self.by_source[source].record(latency)
        self._note()

    def fail(self, reason: str) -> None:
        """A query got no answer."""
        self.failures[reason] += 1
        self._note()

    @property
    def waiting(self) -> int:
        """Queries that were sent and of which nothing was heard."""
        return self.sent - self.failures.total() - sum(histogram.count for histogram in self.by_source.values())

    @property
    def all(self) -> Histogram:
        """Latencies of all answers."""
        total = Histogram()
        for histogram in self.by_source.values():
            total.add(histogram)
        return total

    def share(self, source: Source) -> float:
        """Return the share of the queries that were answered from this source."""
        return self.by_source[source].count / self.sent if self.sent else 0.0

    def rate(self) -> float:
        """Return the queries a second that ended, over the last seconds."""
        self._forget()
        return len(self._recent) / _RECENT

    def summary(self) -> dict[str, Any]:
        """Return plain values; times are in milliseconds."""
        sources = {name: histogram.summary() for name, histogram in self.by_source.items() if histogram.count}
        lag = self.lag.summary()
        return {
            "queries": self.sent,
            "all": self.all.summary(),
            "sources": sources,
            "failures": dict(self.failures),
            "sent_late": {"p50": lag["p50"], "p99": lag["p99"], "max": lag["max"]},
        }

    def _note(self) -> None:
        self._recent.append(self._clock())
        self._forget()

    def _forget(self) -> None:
        while self._recent and self._recent[0] < self._clock() - _RECENT:
            self._recent.popleft()
