"""Clusters that do not fit on a desk: the service's core under a discrete-event clock."""

from parity.serving.service_times import Lognormal, ServiceTimes, Trace
from parity.serving.simulation.arms import Setting, arms
from parity.serving.simulation.cluster import Arm, Cluster, CountingCode
from parity.serving.simulation.engine import simulate
from parity.serving.simulation.result import Result
from parity.serving.simulation.tuning import tuned_hedge_delay

__all__ = [
    "Arm",
    "Cluster",
    "CountingCode",
    "Lognormal",
    "Result",
    "ServiceTimes",
    "Setting",
    "Trace",
    "arms",
    "simulate",
    "tuned_hedge_delay",
]
