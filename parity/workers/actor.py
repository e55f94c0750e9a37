"""What runs in the process of a Ray actor; Ray is what imports this there."""

import os
import threading

from parity.workers.shipping import Shipped
from parity.workers.wire import pack, unpack
from parity.workers.work import attempt


class Actor:
    """What runs in the actor's process.

    Args:
        shipped: the work.
        threads: that torch computes with.
    """

    def __init__(self, shipped: bytes, threads: int) -> None:
        self._work = Shipped(shipped, threads)

    def where(self) -> tuple[str, int]:
        """Return the node and the number of this process."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def answer(self, batch: bytes) -> bytes:
        """Answer a batch."""
        payloads, slowness = unpack(batch)
        return pack(attempt(self._work, payloads, slowness))

    def watch(self) -> None:
        """Never return: the call fails when the actor dies."""
        threading.Event().wait()


def send_signal(process: int, signum: int) -> None:
    """Send a signal to a process of this machine; Ray does not take ``os.kill`` itself."""
    os.kill(process, signum)
