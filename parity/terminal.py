"""What goes to standard output, whatever that is: a terminal, a file, a pipe that takes ASCII alone."""

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from parity.errors import ParityError

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


def console(**options: Any) -> Console:
    """Return standard output as rich's console; control codes go to a terminal alone, also where FORCE_COLOR is set.

    Square brackets are printed as they are: names of runs and folders may have them.
    """
    return Console(force_terminal=None if sys.stdout.isatty() else False, markup=False, **options)


def print_line(text: str) -> None:
    """Print a line, with question marks for what standard output cannot show; nothing where its reader has gone."""
    encoding = sys.stdout.encoding or "utf-8"
    with suppress(BrokenPipeError):
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stdout.flush()


class _Patient(io.RawIOBase):
    """A stream whose reader may go: what is written then is dropped, as is what a full disk refuses.

    Args:
        raw: the stream.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.refused: OSError | None = None
        """Why what was written is dropped; a reader that has gone is not a reason to report."""
        self._is_gone = False

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self._is_gone:
            return size
        try:
            return self._raw.write(data) or 0
        except BrokenPipeError:
            pass
        except BlockingIOError:
            raise
        except OSError as error:
            self.refused = error
        self._is_gone = True
        return size

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()


def guard_output() -> None:
    """Let standard output and errors take any text, with question marks for what they cannot show, and lose it quietly.

    A command that is piped into ``head`` does its work all the same, without a traceback for each line that nobody
    reads.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed from the start: its number must not become that of a file
            nowhere = io.BufferedWriter(_Patient(io.FileIO(os.devnull, "w")))
            setattr(sys, name, io.TextIOWrapper(nowhere, errors="replace"))
        elif isinstance(stream, io.TextIOWrapper):
            raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer
            if isinstance(raw, _Patient):
                continue
            if not isinstance(raw, io.RawIOBase):  # in memory
                stream.reconfigure(errors="replace")
            else:
                stream.flush()
                buffer = io.BufferedWriter(_Patient(raw))
                lines = stream.line_buffering or stream.write_through or name == "stderr"
                guarded = io.TextIOWrapper(buffer, stream.encoding, "replace", line_buffering=lines)
                setattr(sys, name, guarded)


def check_output() -> None:
    """Make sure that what was printed has come to where standard output goes; a reader that has gone is none's fault.

    Raises:
        ParityError: it was refused, as by a full disk.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Patient):
        return
    sys.stdout.flush()
    if raw.refused is not None:
        reason = os.strerror(raw.refused.errno or 0).lower()
        raise ParityError(f"standard output cannot be written: {reason}. The work is done, but for what was printed.")


@contextmanager
def progress(
    what: str, total: int, done: int = 0, shown_in: Console | None = None, transient: bool = True
) -> Iterator[Callable[..., None]]:
    """Show how many of ``total`` steps are done: a bar in a terminal, a log line now and then elsewhere.

    Args:
        what: is computed, e.g. 'smoothing of NeRCC, k = 4'.
        total: steps.
        done: steps that are done already.
        shown_in: where to draw; standard output by default.
        transient: remove the bar in the end.

    Yields:
        What is called after each step, or with a number of steps.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    shown_in = shown_in or console()
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    logged = time.monotonic()
    with Progress(*columns, console=shown_in, disable=not shown_in.is_terminal, transient=transient) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(steps: int = 1) -> None:
            nonlocal done, logged
            done += steps
            bar.advance(task, steps)
            if not shown_in.is_terminal and (done == total or time.monotonic() - logged > _SECONDS_BETWEEN_LINES):
                logged = time.monotonic()
                log.info("%s: %d of %d", what, done, total)

        yield advance


def visible(text: str) -> str:
    """Return a text with control characters, line breaks among them, as their escapes: a terminal obeys none of it."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
