"""The hedge delay that is best for a cluster, found on runs of its own: what is compared has other seeds."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from parity.serving.simulation.arms import Setting, arms
from parity.serving.simulation.cluster import Cluster
from parity.serving.simulation.engine import simulate

DELAYS = (1.05, 1.1, 1.15, 1.2, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Candidates, in service times."""

_OTHER_SEEDS = 1_000_003  # added to a seed: far from those that a comparison counts up from 0


def tuned_hedge_delay(
    setting: Setting,
    cluster: Cluster,
    rate: float,
    queries: int = 4000,
    seed: int = 0,
    runs: int = 3,
    percent: float = 99,
    delays: Sequence[float] = DELAYS,
) -> float:
    """Return the delay with which hedging has the lowest percentile, in service times; its budget stays the setting's.

    Args:
        setting: whose hedge delay is replaced.
        cluster: the workers.
        rate: queries a second.
        queries: of each run.
        seed: of the comparison; the runs have other ones.
        runs: for each candidate, of which the median counts.
        percent: which percentile is to be low.
        delays: candidates, in service times.
    """

    def latency(delay: float) -> float:
        arm = arms(replace(setting, hedge_delay=delay))["hedged"]
        seeds = [_OTHER_SEEDS + 101 * seed + run for run in range(runs)]
        return median(simulate(arm, cluster, rate, queries, other).percentile(percent) for other in seeds)

    return min(delays, key=latency)
