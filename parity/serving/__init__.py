"""A code as a service: answers on time although a worker is slow or dead."""

from parity.serving.commands import Reason, Source
from parity.serving.faults import ThreadFaults
from parity.serving.policy import Policy
from parity.serving.pools import ThreadPool, WorkerPool
from parity.serving.server import CodedServer, Reply, Unanswered, thread_pool

__all__ = [
    "CodedServer",
    "Policy",
    "Reason",
    "Reply",
    "Source",
    "ThreadFaults",
    "ThreadPool",
    "Unanswered",
    "WorkerPool",
    "thread_pool",
]
