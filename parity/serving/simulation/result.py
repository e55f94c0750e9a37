"""What became of a simulation's queries."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from parity.serving.commands import Reason, Source


@dataclass
class Result:
    """What became of the queries.

    Attributes:
        latencies: seconds, of those that were answered, in the order of the answers.
        sources: how many answers came from where.
        failures: how many queries failed, and why.
        queries: how many arrived.
        work: time that workers were given to work, in units of the base pool's service time: a slow worker's slowness
            is not counted.
    """

    latencies: list[float] = field(default_factory=list)
    sources: Counter[Source] = field(default_factory=Counter)
    failures: Counter[Reason] = field(default_factory=Counter)
    queries: int = 0
    work: float = 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency, in seconds; NaN if nothing was answered."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else math.nan

    def share(self, source: Source) -> float:
        """Return the share of the queries that were answered from this source."""
        return self.sources[source] / self.queries

    @property
    def work_per_query(self) -> float:
        """Service times of work for each query; 1 without redundancy."""
        return self.work / self.queries
