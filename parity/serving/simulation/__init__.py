"""Clusters that do not fit on a desk: the service's core under a discrete-event clock."""

from parity.serving.simulation.arms import Setting, arms
from parity.serving.simulation.cluster import Arm, Cluster, CountingCode
from parity.serving.simulation.disturbances import Disturbance, Frozen, Killed, Slow, Tenant, Transfers
from parity.serving.simulation.engine import simulate
from parity.serving.simulation.result import Result
from parity.serving.simulation.service_times import Lognormal, ServiceTimes, Trace
from parity.serving.simulation.tuning import tuned_hedge_delay

__all__ = [
    "Arm",
    "Cluster",
    "CountingCode",
    "Disturbance",
    "Frozen",
    "Killed",
    "Lognormal",
    "Result",
    "ServiceTimes",
    "Setting",
    "Slow",
    "Tenant",
    "Trace",
    "Transfers",
    "arms",
    "simulate",
    "tuned_hedge_delay",
]
