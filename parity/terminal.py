"""What goes to standard output, whatever that is: a terminal, a file, a pipe that takes ASCII alone."""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


def console(**options: Any) -> Console:
    """Return standard output as rich's console; control codes go to a terminal alone, also where FORCE_COLOR is set.

    Square brackets are printed as they are: names of runs and folders may have them.
    """
    return Console(force_terminal=None if sys.stdout.isatty() else False, markup=False, **options)


def print_line(text: str) -> None:
    """Print a line, with question marks for what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def take_any_text() -> None:
    """Let standard output and errors take any text, with question marks for what they cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


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
