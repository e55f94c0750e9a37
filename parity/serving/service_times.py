"""How long workers take: made up, or measured by the load generator."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from parity.errors import ParityError
from parity.schema import Field
from parity.storage.files import read_json, write_output

_TRACE = {"seconds": Field((list,), values=Field((list,), values=Field((int, float), 0, 1e9)))}
"""What the file of a trace holds, for each pool."""

_BLOCK = 4096  # drawn at once: NumPy is slow for single numbers


class ServiceTimes(Protocol):
    """The time in which a worker that is well answers, as a random number."""

    @property
    def mean(self) -> float:
        """Seconds, of the base pool."""
        ...

    def draws(self, pool: int, cost: float, random: np.random.Generator) -> Iterator[float]:
        """Yield seconds of the workers of a pool, without end.

        Args:
            pool: which.
            cost: what a task of it costs, as a multiple of the base pool's; where nothing better is known.
            random: where they come from.
        """
        ...


@dataclass(frozen=True)
class Lognormal:
    """A lognormal time of a given mean.

    Args:
        mean: seconds.
        sigma: of the logarithm.

    Raises:
        ParityError: a value is out of range.
    """

    mean: float = 0.1
    sigma: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.mean < math.inf:
            raise ParityError(f"service must be more than 0 seconds, not {self.mean}.")
        if not 0 <= self.sigma < math.inf:
            raise ParityError(f"sigma must be at least 0, not {self.sigma}.")

    def draws(self, pool: int, cost: float, random: np.random.Generator) -> Iterator[float]:
        """Yield times of a pool, ``cost`` as long as those of the base pool."""
        mu = math.log(self.mean * cost) - self.sigma**2 / 2
        while True:
            yield from random.lognormal(mu, self.sigma, _BLOCK).tolist()


@dataclass(frozen=True)
class Trace:
    """Times that were measured, drawn with replacement.

    Args:
        pools: seconds, for each pool; what a trace does not have is made of the base pool's times and the cost.

    Raises:
        ParityError: no times of the base pool, or one that is not a positive number.
    """

    pools: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.pools or not self.pools[0]:
            raise ParityError("a trace needs service times of the base pool: record one under load without faults.")
        if not all(0 < time < math.inf for times in self.pools for time in times):
            raise ParityError("a trace has positive numbers of seconds only: record it again.")

    @property
    def mean(self) -> float:
        """Mean time of the base pool."""
        return float(np.mean(self.pools[0]))

    def draws(self, pool: int, cost: float, random: np.random.Generator) -> Iterator[float]:
        """Yield measured times of a pool."""
        known = pool < len(self.pools) and self.pools[pool]
        times = np.array(self.pools[pool]) if known else np.array(self.pools[0]) * cost
        while True:
            yield from random.choice(times, _BLOCK).tolist()

    def save(self, path: Path) -> None:
        """Write the trace as JSON, to a path of ``parity.storage.files.check_output``."""
        write_output(path, {"seconds": [list(times) for times in self.pools]})

    @classmethod
    def load(cls, path: Path) -> "Trace":
        """Read a trace.

        Raises:
            ParityError: there is no such file, or it is not a trace.
        """
        if not path.exists():
            raise ParityError(f"there is no trace {path}: parity.serving.load --trace FILE writes one.")
        seconds = read_json(path, "a trace of service times", _TRACE)["seconds"]
        return cls(tuple(tuple(float(time) for time in times) for times in seconds))
