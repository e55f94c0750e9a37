"""What is simulated: a policy with its code and workers, and what these workers are like."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from parity.serving.commands import BASE
from parity.serving.disturbances import Disturbance
from parity.serving.policy import Policy
from parity.serving.service_times import Lognormal, ServiceTimes

_USUAL = Lognormal()


class CountingCode:
    """A code without queries and predictions: what is rebuilt is None.

    Args:
        k: queries in a coding group.
        r: parity queries of a group.
        systematic: whether workers are asked the queries themselves.
        needed: how many outputs suffice if one is of a parity model: k, or 1 with a positional code.
    """

    blank: None = None

    def __init__(self, k: int, r: int, systematic: bool = True, needed: int | None = None) -> None:
        self.k, self.n, self.systematic = k, k + r, systematic
        self._needed = k if needed is None else needed
        self._all, self._none = frozenset(range(k)), frozenset[int]()

    def pool(self, worker: int) -> int:
        """Return the pool of a worker: each parity model of a systematic code has one."""
        return 1 + worker - self.k if self.systematic and worker >= self.k else BASE

    def encode(self, queries: Sequence[None]) -> list[None]:
        """Return one payload for each worker that is not asked a query itself."""
        return [None] * (self.n - self.k if self.systematic else self.n)

    def rebuildable(self, arrived: AbstractSet[int]) -> frozenset[int]:
        """Any k outputs suffice for all predictions, or fewer with one of a parity model."""
        enough = len(arrived) >= self.k or (len(arrived) >= self._needed and max(arrived) >= self.k)
        return self._all if enough else self._none

    def decode(self, outputs: Mapping[int, None]) -> list[None]:
        """Return k predictions."""
        return [None] * self.k


@dataclass(frozen=True)
class Cluster:
    """What the workers are like.

    Args:
        times: in which they answer.
        disturbance: what happens to them, if anything.
    """

    times: ServiceTimes = _USUAL
    disturbance: Disturbance | None = None


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
