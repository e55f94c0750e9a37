"""A code as a service: answers on time although a worker is slow or dead."""

from parity.serving.commands import Reason, Source
from parity.serving.policy import Policy
from parity.serving.pools import ENGINES, Batching, Supervision, WorkerHealth, WorkerPool, WorkerState, make_pool
from parity.serving.server import CodedServer, Reply, Unanswered

__all__ = [
    "ENGINES",
    "Batching",
    "CodedServer",
    "Policy",
    "Reason",
    "Reply",
    "Source",
    "Supervision",
    "Unanswered",
    "WorkerHealth",
    "WorkerPool",
    "WorkerState",
    "make_pool",
]
