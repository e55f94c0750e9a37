"""Signals end a run in an orderly way: what it has learned is saved first."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

from parity.errors import Stopped
from parity.training.loop import ranks

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Of people and schedulers: kill, Ctrl-C, the end of a SLURM job's time."""

_ONE_AND_THE_SAME = 1.0
"""Schedulers send a signal to a job's steps and to its processes: what comes within so many seconds counts once."""


class StopSignals:
    """Turns signals into ``Stopped``, at once or, while training, where a checkpoint has just been saved.

    A context manager; within it, the first signal is handled, and a second one, or the end of the grace, ends the
    process where it is. Only the main thread can handle signals: elsewhere, as in a notebook's worker, they do what
    they did.

    Args:
        grace: seconds between a signal and the end, whatever the process is doing then.
    """

    def __init__(self, grace: float = 60.0) -> None:
        self.grace = grace
        self.received: signal.Signals | None = None
        """The signal that ends this run, once there is one."""
        self._when = 0.0
        self._later = False
        self._pid = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._hear) for signum in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}
        if self._timer is not None:
            self._timer.cancel()

    @contextmanager
    def answered_later(self) -> Iterator[None]:
        """Within this block a signal only sets ``received``: the block asks for it where it can stop."""
        self._later = True
        try:
            yield
        finally:
            self._later = False

    def end(self) -> NoReturn:
        """Raise ``Stopped``: here, or where another rank has received the signal."""
        raise Stopped(self.received or signal.SIGTERM)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process forked from this one, which has not set its own handlers yet
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        now = time.monotonic()
        if self.received is not None:
            if now - self._when > _ONE_AND_THE_SAME:
                _end(self.received)
            return
        self.received, self._when = signal.Signals(signum), now
        ranks.tell_children(signum)
        self._timer = threading.Timer(min(self.grace, threading.TIMEOUT_MAX), _end, (self.received,))
        self._timer.daemon = True
        self._timer.start()
        if not self._later:
            raise Stopped(signum)
        if ranks.rank() == 0:
            sys.stderr.write(f"\n{self.received.name}: saving, then stopping; once more stops at once.\n")


class Interrupts(StopSignals):
    """For a process that lives on, as a notebook's: listens to Ctrl-C alone, and a second one interrupts at once."""

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {signal.SIGINT: signal.signal(signal.SIGINT, self._hear)}
        return self

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a DataLoader's process: this one is still to take what it has read
            return
        if self.received is not None or not self._later:
            raise KeyboardInterrupt
        self.received = signal.SIGINT
        sys.stderr.write("\ninterrupted: saving, then stopping; once more stops at once.\n")


def _end(signum: signal.Signals) -> None:
    os._exit(128 + signum)
