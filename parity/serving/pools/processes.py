"""Workers as processes of this machine, each with a pipe of its own.

They are started from nothing, not forked: a fork of a process with threads may hang. Unlike ``multiprocessing`` this
does not run the user's script again in each of them.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from signal import SIGCONT, SIGSTOP
from typing import Generic

from parity.serving.commands import P, Q
from parity.serving.pools.engine import Reports
from parity.workers.shipping import ship
from parity.workers.wire import pack, unpack
from parity.workers.work import Work


class ProcessEngine(Generic[Q, P]):
    """Starts processes.

    Args:
        work: what the workers of each pool do.
        threads: that torch computes with, in each process.

    Raises:
        ParityError: the work cannot be sent to a process.
    """

    def __init__(self, work: Sequence[Work[Q, P]], threads: int = 1) -> None:
        self._shipped = [ship(each) for each in work]
        self._threads = threads

    def start(self, worker: int, pool: int, reports: Reports[P]) -> "_Process[Q, P]":
        """Start a process."""
        return _Process(f"parity-worker-{worker}", self._shipped[pool], self._threads, reports)

    def close(self) -> None:
        """Nothing is shared."""


class _Process(Generic[Q, P]):
    """A process; one thread sends, so that a worker that does not read holds nobody up, and one listens."""

    def __init__(self, name: str, shipped: bytes, threads: int, reports: Reports[P]) -> None:
        self._reports = reports
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "parity.workers.child", str(theirs.fileno()), str(threads)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                    "OMP_NUM_THREADS": str(threads),
                },
            )
        self._to_send: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._to_send.put(shipped)
        self._sender, listener = (
            threading.Thread(target=target, name=name, daemon=True) for target in (self._send, self._listen)
        )
        self._sender.start()
        listener.start()

    def give(self, payloads: Sequence[Q], slowness: float) -> None:
        self._to_send.put(pack((payloads, slowness)))

    def stall(self) -> None:
        self._process.send_signal(SIGSTOP)

    def release(self) -> None:
        self._process.send_signal(SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._to_send.put(None)

    def end(self) -> None:
        self._to_send.put(b"")

    def ended(self, timeout: float) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self) -> None:
        with suppress(OSError):  # it has died: the other thread reports that
            while (data := self._to_send.get()) is not None:
                self._pipe.send_bytes(data)

    def _listen(self) -> None:
        try:
            with suppress(EOFError, OSError):
                while True:
                    self._reports.answered(unpack(self._pipe.recv_bytes()))
        finally:
            self._to_send.put(None)
            self._sender.join()  # else it might still write, to whatever has got the pipe's number by then
            self._pipe.close()
        code = self._process.wait()
        self._reports.died(f"its process ended with exit code {code}")
