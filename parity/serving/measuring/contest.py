"""Services beside each other: the same queries at the same times, the same faults; at once, apart, or in turn."""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.serving import CodedServer, Policy, Reply, Source, WorkerPool
from parity.serving.disturbances import Disturbance
from parity.serving.measuring.asking import in_process
from parity.serving.measuring.faults import disturbed, hush
from parity.serving.measuring.open_loop import offer
from parity.serving.measuring.record import Record


@dataclass(frozen=True)
class Load:
    """What a service is asked, and what happens to its workers.

    Args:
        queries: (N, *Q); asked in order, again and again.
        due: when each is due, in seconds from the beginning.
        labels: (N,) true classes, if what users get is to be judged.
        disturbance: what happens to the workers.
        seed: of the disturbance.
    """

    queries: Tensor
    due: Sequence[float]
    labels: Tensor | None = None
    disturbance: Disturbance | None = None
    seed: int = 0


@dataclass(frozen=True)
class Contender:
    """A service.

    Args:
        model: what it serves.
        policy: times, budgets and bounds.
        pool: its workers, not started.
        costs: what a task of each pool costs, as a multiple of the base pool's.
    """

    model: CodedModel
    policy: Policy
    pool: WorkerPool[Tensor, Tensor]
    costs: Sequence[float] = (1.0,)


@dataclass
class Outcome:
    """What became of a contender's queries.

    Attributes:
        record: latencies.
        right: answers that name the true class, by source; queries without an answer are wrong.
        work: tasks that were sent for a query, in tasks of the base pool.
    """

    record: Record = field(default_factory=Record)
    right: dict[Source, int] = field(default_factory=lambda: dict.fromkeys(Source, 0))
    work: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return plain values."""
        queries = self.record.sent
        right = {source.value: count for source, count in self.right.items()}
        return {**self.record.summary(), "right": right, "work": self.work, "accuracy": sum(right.values()) / queries}


async def at_once(contenders: dict[str, Contender], load: Load, outcomes: dict[str, Outcome]) -> None:
    """Measure all at the same time in this process: whatever else the machine does, it does to each of them.

    Raises:
        ParityError: one cannot be started, or the load does not suit it.
    """
    await _measure_together(contenders, load, outcomes)


async def _measure_together(
    contenders: dict[str, Contender],
    load: Load,
    outcomes: dict[str, Outcome],
    all_are_warm: Callable[[], object] = lambda: None,
) -> None:
    async with AsyncExitStack() as stack:
        # All are warm before any is asked: starting one holds up the others.
        servers = {name: await stack.enter_async_context(_server(found)) for name, found in contenders.items()}
        await asyncio.to_thread(all_are_warm)
        async with asyncio.TaskGroup() as tasks:
            for name, contender in contenders.items():
                tasks.create_task(_measure(servers[name], contender, load, outcomes[name]))


async def in_turn(contenders: dict[str, Contender], load: Load, outcomes: dict[str, Outcome]) -> None:
    """Measure one after the other: for workers that compute, and would take each other's cores."""
    for name, contender in contenders.items():
        await at_once({name: contender}, load, outcomes)


def apart(make: Callable[[str], Contender], names: Sequence[str], load: Load) -> dict[str, Outcome]:
    """Measure all at the same time, each in a process of its own: threads of one would wait for another's.

    Args:
        make: makes a contender of its name; can be pickled.
        names: of the contenders.
        load: begins when all are warm.

    Raises:
        ParityError: one cannot be started, or the load does not suit it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "__main__"])  # imported once, in place of once for each
    barrier = context.Barrier(len(names))
    with ProcessPoolExecutor(len(names), context, _begin_process, (barrier, torch.get_num_threads())) as processes:
        futures = [processes.submit(_alone, make, name, load) for name in names]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error  # what broke the barrier first
        return {name: future.result() for name, future in zip(names, futures, strict=True)}


_barrier: Barrier | None = None
"""In a process of ``apart``: where it waits for the others."""

_LONGEST_START = 120.0


def _begin_process(barrier: Barrier, threads: int) -> None:
    global _barrier
    _barrier = barrier
    torch.set_num_threads(threads)
    hush()


def _alone(make: Callable[[str], Contender], name: str, load: Load) -> Outcome:
    assert _barrier is not None
    outcome = Outcome()
    try:
        warm = partial(_barrier.wait, _LONGEST_START)
        asyncio.run(_measure_together({name: make(name)}, load, {name: outcome}, warm))
    except BaseException:
        _barrier.abort()
        raise
    return outcome


def _server(contender: Contender) -> CodedServer:
    return CodedServer(contender.model, contender.policy, contender.pool)


async def _measure(server: CodedServer, contender: Contender, load: Load, outcome: Outcome) -> None:
    workers = len(contender.pool.health())
    async with disturbed(load.disturbance, contender.pool.faults, workers, load.seed):
        await offer(in_process(server, load.queries, _judge(load, outcome)), load.due, outcome.record)
    costs, sent = contender.costs, server.statistics.sent.items()
    outcome.work = sum(count * costs[pool if pool < len(costs) else 0] for pool, count in sent) / len(load.due)


def _judge(load: Load, outcome: Outcome) -> Callable[[int, Reply], None] | None:
    if load.labels is None:
        return None
    labels = load.labels.tolist()

    def judge(number: int, reply: Reply) -> None:
        outcome.right[reply.source] += int(reply.prediction.argmax()) == labels[number % len(labels)]

    return judge
