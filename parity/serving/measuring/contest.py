"""Services beside each other: the same queries at the same times, the same faults, at once or in turn."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from parity.coded_model import CodedModel
from parity.serving import CodedServer, Policy, Reply, Source, WorkerPool
from parity.serving.disturbances import Disturbance
from parity.serving.measuring.asking import in_process
from parity.serving.measuring.faults import disturbed
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
    """Measure all at the same time: whatever else the machine does, it does to each of them.

    Raises:
        ParityError: one cannot be started, or the load does not suit it.
    """
    async with AsyncExitStack() as stack:
        # All are warm before any is asked: starting one holds up the others.
        servers = {name: await stack.enter_async_context(_server(found)) for name, found in contenders.items()}
        async with asyncio.TaskGroup() as tasks:
            for name, contender in contenders.items():
                tasks.create_task(_measure(servers[name], contender, load, outcomes[name]))


async def in_turn(contenders: dict[str, Contender], load: Load, outcomes: dict[str, Outcome]) -> None:
    """Measure one after the other: for workers that compute, and would take each other's cores."""
    for name, contender in contenders.items():
        await at_once({name: contender}, load, outcomes)


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
