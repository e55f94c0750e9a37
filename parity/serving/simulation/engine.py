"""The core under a discrete-event clock.

Queries arrive at random (Poisson) and workers take random times. The core, its policy and its commands are those of the
service; workers and clock are made up, and outputs are left out.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from parity.errors import ParityError
from parity.serving.commands import Answer, Cancel, Command, Fail, Send
from parity.serving.core import Core
from parity.serving.simulation.cluster import Arm, Cluster
from parity.serving.simulation.result import Result

_DISTURBANCE = -1  # an event that concerns no worker of its own
_NOTHING = -1  # the task of a worker that has none

_BLOCK = 4096  # arrivals that are drawn at once


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
    return _Simulation(arm, cluster, seed).run(_arrivals(rate, queries, seed), queries)


def _arrivals(rate: float, queries: int, seed: int) -> Iterator[float]:
    """Yield when queries arrive, and infinity after the last."""
    random, now = np.random.default_rng([seed, 0]), 0.0
    for start in range(0, queries, _BLOCK):
        times = now + random.exponential(1 / rate, _BLOCK).cumsum()
        now = float(times[-1])
        yield from times[: queries - start].tolist()
    yield math.inf


class _Simulation:
    """Pools, workers and the clock of one simulation."""

    def __init__(self, arm: Arm, cluster: Cluster, seed: int) -> None:
        self._core: Core[None, None] = Core(arm.policy, arm.code)
        self._service = cluster.times.mean
        generator = np.random.default_rng([seed, 1])
        self._times = [cluster.times.draws(pool, arm.cost(pool), generator) for pool in range(len(arm.workers))]
        self._pools = [pool for pool, count in enumerate(arm.workers) for _ in range(count)]
        self._queues: list[dict[int, None]] = [{} for _ in arm.workers]
        self._idle: list[deque[int]] = [deque() for _ in arm.workers]
        for worker, pool in enumerate(self._pools):
            self._idle[pool].append(worker)
        self._tasks = [_NOTHING] * len(self._pools)
        self._ends = [0.0] * len(self._pools)  # of what a worker has; an event at another time is out of date
        self._frozen_until = [0.0] * len(self._pools)
        self._factors = [1.0] * len(self._pools)
        self._lost, self._damaged = [0] * len(self._pools), [0] * len(self._pools)  # answers to come, by worker
        self._shared: dict[int, float] = {}  # the load of another service, by worker
        self._events: list[tuple[float, int]] = []
        self._arrived: dict[int, float] = {}
        self._result = Result()
        self._generator = generator
        self._disturbance: Iterator[float] = iter(())
        if cluster.disturbance is not None:
            self._disturbance = cluster.disturbance.disturb(self, random.Random(f"disturbances {seed}"))
        self._disturb()

    def run(self, arrivals: Iterator[float], queries: int) -> Result:
        """Let queries arrive, and go from event to event until all are answered."""
        self._result.queries = queries
        core, events, arrived = self._core, self._events, self._arrived
        arrival, number = next(arrivals), 0
        while arrival < math.inf or arrived:
            due_tick = core.next_tick()
            tick = math.inf if due_tick is None else due_tick
            event = events[0][0] if events else math.inf
            if arrival <= tick and arrival <= event:
                arrived[number] = arrival
                self._carry_out(arrival, core.arrive(arrival, number, None))
                arrival, number = next(arrivals), number + 1
            elif tick <= event:
                self._carry_out(tick, core.tick(tick))
            else:
                self._happen(*heapq.heappop(events))
        return self._result

    def __len__(self) -> int:
        """Return the number of workers."""
        return len(self._pools)

    def slow(self, worker: int, factor: float) -> None:
        """Make what a worker starts from now on take so many times as long."""
        self._factors[worker] = factor

    def share(self, worker: int, load: float) -> None:
        """Let tasks of another service, as long as queries, take a share of a worker's time."""
        self._shared[worker] = load

    def freeze(self, now: float, worker: int, until: float) -> None:
        """Stop a worker with what it has; one that is idle still looks as if it could take a task."""
        if self._ends[worker] > now:
            self._end_at(worker, self._ends[worker] + until - max(now, self._frozen_until[worker]))
        self._frozen_until[worker] = until

    def kill(self, now: float, worker: int, until: float) -> None:
        """Fail what a worker has; its replacement is idle from ``until`` on."""
        task, self._tasks[worker] = self._tasks[worker], _NOTHING
        if task == _NOTHING and self._ends[worker] <= now:
            self._idle[self._pools[worker]].remove(worker)
        self._end_at(worker, until)
        if task != _NOTHING:
            self._carry_out(now, self._core.failed(now, task))

    def lose(self, worker: int) -> None:
        """Lose a worker's next answer."""
        self._lost[worker] += 1

    def damage(self, worker: int) -> None:
        """Let a worker's next task fail when it is done."""
        self._damaged[worker] += 1

    def _happen(self, now: float, worker: int) -> None:
        if worker == _DISTURBANCE:
            self._disturb()
        elif self._ends[worker] == now:
            task, self._tasks[worker] = self._tasks[worker], _NOTHING
            if task != _NOTHING:
                self._report(now, worker, task)
            pool = self._pools[worker]
            if self._queues[pool]:
                task = next(iter(self._queues[pool]))
                del self._queues[pool][task]
                self._begin(now, worker, task)
            else:
                self._idle[pool].append(worker)

    def _report(self, now: float, worker: int, task: int) -> None:
        if self._lost[worker]:
            self._lost[worker] -= 1
        elif self._damaged[worker]:
            self._damaged[worker] -= 1
            self._carry_out(now, self._core.failed(now, task))
        else:
            self._carry_out(now, self._core.done(now, task, None))

    def _disturb(self) -> None:
        """Let the disturbance do what is due, and come back when it wants to be resumed."""
        for at in self._disturbance:
            if at < math.inf:
                heapq.heappush(self._events, (at, _DISTURBANCE))
            return

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
        time = next(self._times[self._pools[worker]])
        self._result.work += time / self._service
        time *= self._factors[worker]
        if worker in self._shared:
            time += self._service * self._generator.poisson(self._shared[worker] * (1 + time / self._service))
        self._tasks[worker] = task
        frozen_until = self._frozen_until[worker]
        self._end_at(worker, (now if now > frozen_until else frozen_until) + time)

    def _end_at(self, worker: int, end: float) -> None:
        self._ends[worker] = end
        heapq.heappush(self._events, (end, worker))

    def _end(self, now: float, command: Answer[None] | Fail) -> None:
        arrived = self._arrived.pop(command.query)  # type: ignore[call-overload]  # names are the numbers given above
        if isinstance(command, Answer):
            self._result.latencies.append(now - arrived)
            self._result.sources[command.source] += 1
        else:
            self._result.failures[command.reason] += 1
