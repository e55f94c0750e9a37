"""Workers: one pool with a single queue for each network, over threads, processes or Ray actors."""

from parity.serving.pools.make import ENGINES, make_pool
from parity.serving.pools.pool import Pool
from parity.serving.pools.protocol import (
    Batching,
    Faults,
    Listener,
    Supervision,
    WorkerHealth,
    WorkerPool,
    WorkerState,
)
from parity.workers.work import WorkerFailed

__all__ = [
    "ENGINES",
    "Batching",
    "Faults",
    "Listener",
    "Pool",
    "Supervision",
    "WorkerFailed",
    "WorkerHealth",
    "WorkerPool",
    "WorkerState",
    "make_pool",
]
