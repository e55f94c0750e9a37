"""Queries that are sent when they are due, whatever became of those before: no coordinated omission.

A generator that waits for answers sends fewer queries while a service stalls, and so does not see most of a stall. Here
arrivals are a schedule, drawn beforehand, and latency counts from the time at which a query was due.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from parity.errors import ParityError, in_one_line
from parity.serving.measuring.record import Record


class NotAnswered(Exception):
    """A query gets no answer; the message is the reason, in a word or two."""


Ask = Callable[[int], Awaitable[str]]
"""Asks query i; returns the source of its answer, or raises ``NotAnswered``."""


def due_times(rate: float, queries: int, seed: int = 0) -> list[float]:
    """Return the times at which queries of a Poisson process are due, in seconds from the beginning.

    Raises:
        ParityError: no queries, or no rate.
    """
    if queries < 1 or not 0 < rate < float("inf"):
        raise ParityError(f"a load needs queries and a rate above 0, not {queries} queries at {rate} a second.")
    return np.random.default_rng(seed).exponential(1 / rate, queries).cumsum().tolist()


async def offer(ask: Ask, due: Sequence[float], record: Record) -> None:
    """Send each query when it is due, and wait for all answers.

    Args:
        ask: asks a query.
        due: seconds from now, ascending.
        record: where it is counted what becomes of them.

    Raises:
        ParityError: of a query, as then all would fail alike; the others are dropped.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with asyncio.TaskGroup() as tasks:
            for query, after in enumerate(due):
                if (left := start + after - loop.time()) > 0:
                    await asyncio.sleep(left)
                tasks.create_task(_ask(ask, query, start + after, record))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _ask(ask: Ask, query: int, due: float, record: Record) -> None:
    loop = asyncio.get_running_loop()
    record.send(loop.time() - due)
    try:
        source = await ask(query)
    except NotAnswered as why:
        record.fail(in_one_line(why))
    else:
        record.answer(source, loop.time() - due)


def load_is_offered(record: Record, rate: float) -> str | None:
    """Return a warning if the queries were sent so late that the load is not what was asked for."""
    late = record.lag.percentile(99)
    if late > 1 / rate and late > 0.01:
        return (
            f"1 % of the queries were sent more than {1000 * late:.0f} ms late: this machine cannot send {rate:g} "
            "queries a second, and latencies hold that delay."
        )
    return None
