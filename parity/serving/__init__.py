"""A code as a service: answers on time although a worker is slow or dead."""

from parity.serving.commands import Accept, Reason, Source
from parity.serving.grouping import AcrossBatches, Consecutive
from parity.serving.policy import Policy, most_waiting_for
from parity.serving.pools import Batching, Supervision, WorkerHealth, WorkerPool, WorkerState, make_pool
from parity.serving.replies import Reply, Unanswered, Unavailable
from parity.serving.servable import Servable
from parity.serving.server import CodedServer
from parity.serving.service import Service

__all__ = [
    "Accept",
    "AcrossBatches",
    "Batching",
    "CodedServer",
    "Consecutive",
    "Policy",
    "Reason",
    "Reply",
    "Servable",
    "Service",
    "Source",
    "Supervision",
    "Unanswered",
    "Unavailable",
    "WorkerHealth",
    "WorkerPool",
    "WorkerState",
    "make_pool",
    "most_waiting_for",
]
