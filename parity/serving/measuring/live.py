"""The live view of a load: rate, latency by source, the workers' states; without a terminal, a line now and then."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from parity.serving.measuring.record import Record
from parity.serving.pools import WorkerHealth, WorkerState
from parity.terminal import console

_log = logging.getLogger("parity.serving.load")

Health = Callable[[], Sequence[WorkerHealth]]

_REFRESH, _LINE_EVERY = 0.25, 20.0  # seconds, in a terminal and elsewhere

_SIGNS = {
    WorkerState.STARTING: ("s", "cyan"),
    WorkerState.IDLE: (".", "dim"),
    WorkerState.BUSY: ("b", "green"),
    WorkerState.SILENT: ("!", "bold yellow"),
    WorkerState.DEAD: ("x", "bold red"),
}


def view(record: Record, total: int, workers: Sequence[WorkerHealth]) -> RenderableType:
    """Return the view at this moment."""
    table = Table(
        title=f"{record.sent} of {total} queries sent, {record.waiting} waiting, {record.rate():.0f} a second"
    )
    for heading in ("answers", "count", "share", "p50 ms", "p99 ms", "p99.9 ms"):
        table.add_column(heading, justify="left" if heading == "answers" else "right")
    rows = {name: histogram for name, histogram in record.by_source.items() if histogram.count}
    for name, histogram in {**rows, "all": record.all}.items():
        latencies = [f"{1000 * value:.0f}" for value in histogram.percentiles((50, 99, 99.9))]
        table.add_row(name, str(histogram.count), f"{histogram.count / max(1, record.sent):.1%}", *latencies)
    for reason, count in record.failures.items():
        table.add_row(f"no answer: {reason}", str(count), f"{count / max(1, record.sent):.1%}", "", "", "")
    return Group(table, _states(workers))


def _states(workers: Sequence[WorkerHealth]) -> Text:
    """Return a sign for each worker, pool by pool."""
    text = Text()
    for pool in sorted({worker.pool for worker in workers}):
        text.append(f"{'base' if pool == 0 else f'parity {pool - 1}'} ")
        for worker in workers:
            if worker.pool == pool:
                text.append(*_SIGNS[worker.state])
        text.append("  ")
    if workers:
        text.append("   ".join(f"{sign} {state.value}" for state, (sign, _) in _SIGNS.items()), "dim")
    return text


def line(record: Record, total: int, workers: Sequence[WorkerHealth]) -> str:
    """Return the view in one line."""
    latencies = "/".join(f"{1000 * value:.0f}" for value in record.all.percentiles((50, 99, 99.9)))
    states = Counter(worker.state.value for worker in workers)
    failed = f", {record.failures.total()} without answer" if record.failures else ""
    at_work = f"; workers: {', '.join(f'{count} {state}' for state, count in states.items())}" if states else ""
    return (
        f"{record.sent} of {total} queries, {record.rate():.0f} a second, p50/p99/p99.9 {latencies} ms{failed}{at_work}"
    )


@asynccontextmanager
async def shown(
    record: Record, total: int, health: Health = lambda: (), shown_in: Console | None = None
) -> AsyncIterator[None]:
    """Show a load while this block runs.

    Args:
        record: what is shown.
        total: queries of the load.
        health: returns the workers' states.
        shown_in: where; standard output by default.
    """
    shown_in = shown_in or console()
    task = asyncio.create_task((_draw if shown_in.is_terminal else _write)(record, total, health, shown_in))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _draw(record: Record, total: int, health: Health, shown_in: Console) -> None:
    with Live(console=shown_in, auto_refresh=False, transient=True) as live:
        while True:
            live.update(view(record, total, health()), refresh=True)
            await asyncio.sleep(_REFRESH)


async def _write(record: Record, total: int, health: Health, shown_in: Console) -> None:
    while True:
        await asyncio.sleep(_LINE_EVERY)
        _log.info(line(record, total, health()))
