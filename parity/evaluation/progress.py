"""What a person sees while something takes long: a bar in a terminal, a line now and then elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def progress(what: str, total: int, console: Console | None = None) -> Iterator[Callable[[], None]]:
    """Show how many of ``total`` steps are done.

    Args:
        what: is computed, e.g. 'smoothing of NeRCC, k = 4'.
        total: steps.
        console: where to draw; the terminal by default. Where it is none, lines are logged.

    Yields:
        What is called after each step.
    """
    console = console or Console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    done, logged = 0, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance() -> None:
            nonlocal done, logged
            done += 1
            bar.advance(task)
            if not console.is_terminal and (done == total or time.monotonic() - logged > _SECONDS_BETWEEN_LINES):
                logged = time.monotonic()
                log.info("%s: %d of %d", what, done, total)

        yield advance
