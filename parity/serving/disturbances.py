"""What happens to workers, simulated or real: faults, and the ParM paper's background loads (SOSP 2019, section 5).

Each is a generator that changes workers and yields the time at which it is to be resumed; a seed makes a schedule.
"""

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Protocol

from parity.errors import ParityError


class Workers(Protocol):
    """What can be done to workers, by index."""

    def __len__(self) -> int: ...

    def slow(self, worker: int, factor: float) -> None:
        """Make what a worker starts from now on take so many times as long."""
        ...

    def freeze(self, now: float, worker: int, until: float) -> None:
        """Stop a worker with what it has; it still looks as if it could take a task."""
        ...

    def kill(self, now: float, worker: int, until: float) -> None:
        """Fail what a worker has; another takes its part from ``until`` on."""
        ...

    def lose(self, worker: int) -> None:
        """Lose a worker's next answer."""
        ...

    def damage(self, worker: int) -> None:
        """Damage a worker's next answer, so that it is not a prediction."""
        ...

    def share(self, worker: int, load: float) -> None:
        """Let tasks of another service take a share of a worker's time."""
        ...


class Disturbance(Protocol):
    """Something that happens to workers."""

    def disturb(self, workers: Workers, random: random.Random) -> Iterator[float]:
        """Change workers, beginning at time 0, and yield when to be resumed."""
        ...


def how_many(faulty: float, workers: int) -> int:
    """Return a number of workers: below 1 it is a share of all, of which at least one, else their number."""
    count = max(1, round(faulty * workers)) if 0 < faulty < 1 else int(faulty)
    return min(count, workers)


class _Checked:
    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # its subclasses are dataclasses
            value = getattr(self, field.name)
            if not (0 <= value < math.inf and (value or field.name == "faulty")):
                raise ParityError(f"{field.name} must be more than 0, not {value}.")


@dataclass(frozen=True)
class Slow(_Checked):
    """Some random workers are slow.

    Args:
        faulty: how many at a time; below 1, as a share of all workers.
        every: seconds after which others are drawn.
        factor: how many times as long a slow worker takes for what it starts.
    """

    faulty: float = 1
    every: float = 1.5
    factor: float = 8.0

    def disturb(self, workers: Workers, random: random.Random) -> Iterator[float]:
        """Draw slow workers again and again."""
        now, slow = 0.0, list[int]()
        while True:
            for worker in slow:
                workers.slow(worker, 1.0)
            slow = random.sample(range(len(workers)), how_many(self.faulty, len(workers)))
            for worker in slow:
                workers.slow(worker, self.factor)
            now += self.every
            yield now


@dataclass(frozen=True)
class _Drawn(_Checked):
    """Something happens to some random workers, which are drawn again and again."""

    faulty: float = 1
    every: float = 1.5

    def disturb(self, workers: Workers, random: random.Random) -> Iterator[float]:
        """Draw workers again and again."""
        now = 0.0
        while True:
            for worker in random.sample(range(len(workers)), how_many(self.faulty, len(workers))):
                self._befall(workers, worker, now)
            now += self.every
            yield now

    def _befall(self, workers: Workers, worker: int, now: float) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Frozen(_Drawn):
    """Some random workers stop for a while.

    Args:
        faulty: how many at a time; below 1, as a share of all workers.
        every: seconds between two draws.
        freeze: seconds for which they stop.
    """

    freeze: float = 1.0

    def _befall(self, workers: Workers, worker: int, now: float) -> None:
        workers.freeze(now, worker, now + self.freeze)


@dataclass(frozen=True)
class Killed(_Drawn):
    """Some random workers die and are replaced.

    Args:
        faulty: how many at a time; below 1, as a share of all workers.
        every: seconds between two draws.
        restart: seconds until a replacement works.
    """

    restart: float = 1.0

    def _befall(self, workers: Workers, worker: int, now: float) -> None:
        workers.kill(now, worker, now + self.restart)


@dataclass(frozen=True)
class Lost(_Drawn):
    """Some random workers' next answers are lost.

    Args:
        faulty: how many at a time; below 1, as a share of all workers.
        every: seconds between two draws.
    """

    def _befall(self, workers: Workers, worker: int, now: float) -> None:
        workers.lose(worker)


@dataclass(frozen=True)
class Damaged(_Drawn):
    """Some random workers' next answers are damaged.

    Args:
        faulty: how many at a time; below 1, as a share of all workers.
        every: seconds between two draws.
    """

    def _befall(self, workers: Workers, worker: int, now: float) -> None:
        workers.damage(worker)


_SMALLEST, _LARGEST = 128.0, 256.0  # megabytes of a transfer in the paper


@dataclass(frozen=True)
class Transfers(_Checked):
    """Transfers of 128 to 256 MB between random pairs of workers, whose queries share the links with them.

    Args:
        faulty: transfers at a time; below 1, as a share of all workers.
        bandwidth: megabytes a second of a transfer.
        factor: how many times as long a query takes beside one transfer; a further one adds as much again.
    """

    faulty: float = 3
    bandwidth: float = 125.0
    factor: float = 2.0

    def disturb(self, workers: Workers, random: random.Random) -> Iterator[float]:
        """Start a transfer between two other workers whenever one ends."""
        running = [0] * len(workers)

        def change(pair: list[int], by: int) -> None:
            for worker in pair:
                running[worker] += by
                workers.slow(worker, 1 + (self.factor - 1) * running[worker])

        ends: list[tuple[float, list[int]]] = [(0.0, []) for _ in range(how_many(self.faulty, len(workers)))]
        while ends:
            now, pair = ends[0]
            change(pair, -1)
            pair = random.sample(range(len(workers)), min(2, len(workers)))
            change(pair, 1)
            heapq.heapreplace(ends, (now + random.uniform(_SMALLEST, _LARGEST) / self.bandwidth, pair))
            yield ends[0][0]


@dataclass(frozen=True)
class Tenant(_Checked):
    """A second, light service on some of the workers: its tasks take as long as queries, and come in between.

    Args:
        faulty: workers that it shares; below 1, as a share of all workers.
        load: share of their time that it takes.
    """

    faulty: float = 1 / 9
    load: float = 0.05

    def disturb(self, workers: Workers, random: random.Random) -> Iterator[float]:
        """Choose the workers once."""
        for worker in random.sample(range(len(workers)), how_many(self.faulty, len(workers))):
            workers.share(worker, self.load)
        yield math.inf
