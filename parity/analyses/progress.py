"""What a person sees while a study runs: a bar that counts trials in a terminal, a line now and then elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from parity import terminal

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def trial_progress(total: int, left: int) -> Iterator[Callable[[], None]]:
    """Show how many trials are done.

    Args:
        total: all trials.
        left: those that are still to be run.

    Yields:
        What is called when one is done.
    """
    console = terminal.console()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    done, said = total - left, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("trials", total=total, completed=done)

        def advance() -> None:
            nonlocal done, said
            done += 1
            bar.advance(task)
            if not console.is_terminal and (done == total or time.monotonic() - said > _SECONDS_BETWEEN_LINES):
                said = time.monotonic()
                log.info("%d of %d trials are done", done, total)

        yield advance
