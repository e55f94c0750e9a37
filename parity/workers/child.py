"""The process of one worker: ``python -m parity.workers.child FILE_DESCRIPTOR THREADS``."""

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

from parity.workers.shipping import Shipped
from parity.workers.wire import pack, unpack
from parity.workers.work import attempt


def serve(pipe: Connection, threads: int) -> None:
    """Answer batches until the frontend sends an empty message, or has ended."""
    with pipe, suppress(EOFError, OSError):
        work = Shipped(pipe.recv_bytes(), threads)
        while data := pipe.recv_bytes():
            payloads, slowness = unpack(data)
            pipe.send_bytes(pack(attempt(work, payloads, slowness)))


if __name__ == "__main__":
    # A terminal and a service manager send these to the whole group; what is queued is to be answered all the same,
    # and the frontend decides when it is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
