"""Workers as threads of this process: for small services, demonstrations and tests."""

import queue
import threading
from collections.abc import Sequence
from typing import Generic

import torch

from parity.serving.commands import P, Q
from parity.serving.pools.engine import Reports
from parity.workers.work import Work, attempt


class ThreadEngine(Generic[Q, P]):
    """Starts threads; a thread that is killed lets go of its answer, as a thread cannot be ended from outside.

    Args:
        work: what the workers of each pool do; called from several threads at once.
        threads: that torch computes with, in the whole process; None leaves them as they are.
    """

    def __init__(self, work: Sequence[Work[Q, P]], threads: int | None = None) -> None:
        self._work = list(work)
        self._threads = threads

    def start(self, worker: int, pool: int, reports: Reports[P]) -> "_Thread[Q, P]":
        """Start a thread."""
        return _Thread(f"parity-worker-{worker}", self._work[pool], self._threads, reports)

    def close(self) -> None:
        """Nothing is shared."""


class _Thread(Generic[Q, P]):
    def __init__(self, name: str, work: Work[Q, P], threads: int | None, reports: Reports[P]) -> None:
        self._work, self._threads, self._reports = work, threads, reports
        self._batches: queue.SimpleQueue[tuple[Sequence[Q], float] | None] = queue.SimpleQueue()
        self._released = threading.Event()
        self._released.set()
        self._killed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def give(self, payloads: Sequence[Q], slowness: float) -> None:
        self._batches.put((payloads, slowness))

    def stall(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def kill(self) -> None:
        self._killed = True
        self._released.set()
        self.end()
        # From a thread of its own: whoever kills may hold what hears of the death.
        threading.Thread(target=self._reports.died, args=("killed",), daemon=True).start()

    def end(self) -> None:
        self._batches.put(None)

    def ended(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        while (batch := self._batches.get()) is not None:
            outcome = attempt(self._work, *batch)
            self._released.wait()
            if self._killed:
                return
            self._reports.answered(outcome)
