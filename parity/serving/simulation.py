"""The core under a discrete-event clock: clusters that do not fit on a desk.

Queries arrive at random (Poisson); each worker takes a random time (lognormal), and some are slow or frozen. The core,
its policy and its commands are those of the service; workers and clock are made up, and outputs are left out.
"""

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from parity.errors import ParityError
from parity.serving.commands import BASE, Answer, Cancel, Command, Fail, Reason, Send, Source
from parity.serving.core import Core
from parity.serving.policy import Policy

Fault = Literal["none", "slow", "frozen"]
FAULTS: tuple[Fault, ...] = ("none", "slow", "frozen")

_FAULT = -1  # an event that concerns no worker of its own


class CountingCode:
    """A code without queries and predictions: any k outputs suffice, and what is rebuilt is None."""

    blank: None = None

    def __init__(self, k: int, r: int, systematic: bool = True) -> None:
        self.k, self.n, self.systematic = k, k + r, systematic
        self._all, self._none = frozenset(range(k)), frozenset[int]()

    def pool(self, worker: int) -> int:
        """Return the pool of a worker: each parity model of a systematic code has one."""
        return 1 + worker - self.k if self.systematic and worker >= self.k else BASE

    def encode(self, queries: Sequence[None]) -> list[None]:
        """Return one payload for each worker that is not asked a query itself."""
        return [None] * (self.n - self.k if self.systematic else self.n)

    def rebuildable(self, arrived: AbstractSet[int]) -> frozenset[int]:
        """Any k outputs suffice for all predictions."""
        return self._all if len(arrived) >= self.k else self._none

    def decode(self, outputs: Mapping[int, None]) -> list[None]:
        """Return k predictions."""
        return [None] * self.k


@dataclass(frozen=True)
class Cluster:
    """What the workers are like. Times are in seconds.

    Args:
        service: mean time in which a worker of the base pool answers.
        sigma: of the lognormal distribution of that time.
        fault: nothing; some workers are slow; or some stop for a while, with what they have.
        faulty: how many workers at a time.
        every: how often these are drawn.
        factor: how many times as long a slow worker takes for what it starts.
        freeze: how long a frozen worker stops.
    """

    service: float = 0.1
    sigma: float = 0.05
    fault: Fault = "none"
    faulty: int = 1
    every: float = 1.5
    factor: float = 8.0
    freeze: float = 1.0

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ParityError(f"fault is one of {', '.join(FAULTS)}, not '{self.fault}'.")
        for name in ("service", "every", "factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParityError(f"{name} must be more than 0, not {getattr(self, name)}.")
        if self.sigma < 0 or self.freeze < 0 or self.faulty < 0:
            raise ParityError("sigma, freeze and faulty must be at least 0.")


@dataclass(frozen=True)
class Arm:
    """A policy with its code and its workers.

    Args:
        policy: times, budgets and bounds.
        code: k, r and the kind.
        workers: of each pool.
        costs: the service time of each pool, as a multiple of the base pool's.
    """

    policy: Policy
    code: CountingCode
    workers: tuple[int, ...]
    costs: tuple[float, ...] = (1.0,)

    def cost(self, pool: int) -> float:
        """Return the cost of a pool; where only the base pool's is given it is that of all."""
        return self.costs[pool] if pool < len(self.costs) else self.costs[0]


@dataclass
class Result:
    """What became of the queries.

    Attributes:
        latencies: seconds, of those that were answered, in the order of the answers.
        sources: how many answers came from where.
        failures: how many queries failed, and why.
        queries: how many arrived.
        work: time that workers were given to work, in units of the base pool's service time: a slow worker's slowness
            is not counted.
    """

    latencies: list[float] = field(default_factory=list)
    sources: Counter[Source] = field(default_factory=Counter)
    failures: Counter[Reason] = field(default_factory=Counter)
    queries: int = 0
    work: float = 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency, in seconds; NaN if nothing was answered."""
        return float(np.percentile(self.latencies, percent)) if self.latencies else math.nan

    def share(self, source: Source) -> float:
        """Return the share of the queries that were answered from this source."""
        return self.sources[source] / self.queries

    @property
    def work_per_query(self) -> float:
        """Service times of work for each query; 1 without redundancy."""
        return self.work / self.queries


def simulate(arm: Arm, cluster: Cluster, rate: float, queries: int, seed: int = 0) -> Result:
    """Simulate a service until every query is answered.

    Args:
        arm: the policy.
        cluster: the workers.
        rate: queries a second.
        queries: how many arrive. The times at which they do depend on the seed alone, not on the arm.
        seed: of everything random.

    Raises:
        ParityError: no queries, or no rate.
    """
    if queries < 1 or not 0 < rate < math.inf:
        raise ParityError(f"a simulation needs queries and a rate above 0, not {queries} queries at {rate} a second.")
    return _Simulation(arm, cluster, seed).run(rate, queries)


class _Simulation:
    """Pools, workers and the clock of one simulation."""

    def __init__(self, arm: Arm, cluster: Cluster, seed: int) -> None:
        self._core: Core[None, None] = Core(arm.policy, arm.code)
        self._arm, self._cluster = arm, cluster
        self._arrivals, self._random = random.Random(f"arrivals {seed}"), random.Random(f"workers {seed}")
        self._mu = math.log(cluster.service) - cluster.sigma**2 / 2
        self._pools = [pool for pool, count in enumerate(arm.workers) for _ in range(count)]
        self._queues: list[dict[int, None]] = [{} for _ in arm.workers]
        self._idle: list[deque[int]] = [deque() for _ in arm.workers]
        for worker, pool in enumerate(self._pools):
            self._idle[pool].append(worker)
        self._tasks = [-1] * len(self._pools)
        self._ends = [0.0] * len(self._pools)  # of what a worker has; an event at another time is out of date
        self._frozen_until = [0.0] * len(self._pools)
        self._slow: set[int] = set()
        self._events: list[tuple[float, int]] = []
        self._arrived: dict[int, float] = {}
        self._result = Result()

    def run(self, rate: float, queries: int) -> Result:
        """Let queries arrive, and go from event to event until all are answered."""
        self._result.queries = queries
        if self._cluster.fault != "none":
            self._events.append((0.0, _FAULT))
        arrival, left = self._arrivals.expovariate(rate), queries
        while left or self._arrived:
            due_tick = self._core.next_tick()
            tick = math.inf if due_tick is None else due_tick
            event = self._events[0][0] if self._events else math.inf
            if left and arrival <= min(tick, event):
                number = queries - left
                self._arrived[number] = arrival
                self._carry_out(arrival, self._core.arrive(arrival, number, None))
                arrival, left = arrival + self._arrivals.expovariate(rate), left - 1
            elif tick <= event:
                self._carry_out(tick, self._core.tick(tick))
            else:
                self._happen(*heapq.heappop(self._events))
        return self._result

    def _happen(self, now: float, worker: int) -> None:
        if worker == _FAULT:
            self._draw_faults(now)
        elif self._ends[worker] == now:
            pool = self._pools[worker]
            self._carry_out(now, self._core.done(now, self._tasks[worker], None))
            if self._queues[pool]:
                task = next(iter(self._queues[pool]))
                del self._queues[pool][task]
                self._begin(now, worker, task)
            else:
                self._idle[pool].append(worker)
                self._ends[worker] = -1.0

    def _carry_out(self, now: float, commands: Sequence[Command[None, None]]) -> None:
        for command in commands:
            if isinstance(command, Send):
                if idle := self._idle[command.pool]:
                    self._begin(now, idle.popleft(), command.task)
                else:
                    self._queues[command.pool][command.task] = None
            elif isinstance(command, Cancel):
                for queue in self._queues:
                    queue.pop(command.task, None)
            else:
                self._end(now, command)

    def _begin(self, now: float, worker: int, task: int) -> None:
        time = self._random.lognormvariate(self._mu, self._cluster.sigma) * self._arm.cost(self._pools[worker])
        self._result.work += time / self._cluster.service
        if worker in self._slow:
            time *= self._cluster.factor
        self._tasks[worker] = task
        self._ends[worker] = end = max(now, self._frozen_until[worker]) + time
        heapq.heappush(self._events, (end, worker))

    def _end(self, now: float, command: Answer[None] | Fail) -> None:
        arrived = self._arrived.pop(command.query)  # type: ignore[call-overload]  # names are the numbers given above
        if isinstance(command, Answer):
            self._result.latencies.append(now - arrived)
            self._result.sources[command.source] += 1
        else:
            self._result.failures[command.reason] += 1

    def _draw_faults(self, now: float) -> None:
        cluster = self._cluster
        drawn = self._random.sample(range(len(self._pools)), min(cluster.faulty, len(self._pools)))
        if cluster.fault == "slow":
            self._slow = set(drawn)
        else:
            for worker in drawn:
                self._freeze(now, worker)
        heapq.heappush(self._events, (now + cluster.every, _FAULT))

    def _freeze(self, now: float, worker: int) -> None:
        """Stop a worker; one that is idle still looks as if it could take a task."""
        until = now + self._cluster.freeze
        if self._ends[worker] > now:
            self._ends[worker] += until - max(now, self._frozen_until[worker])
            heapq.heappush(self._events, (self._ends[worker], worker))
        self._frozen_until[worker] = until
