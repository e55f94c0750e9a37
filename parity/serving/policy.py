"""What a service does about workers that are late: times, budgets and bounds, whichever the code is."""

import math
from dataclasses import dataclass, field

from parity.errors import ParityError
from parity.serving.grouping import Consecutive, Grouping

# A budget that was not spent is kept for as many queries: a burst of stragglers may use it, a calm day is no reserve.
_BUDGET_KEPT_FOR = 100


def most_waiting_for(workers: int, max_batch_size: int = 1) -> int:
    """Return how many queries may wait so that those which are accepted are answered soon, also at twice the load.

    With two for each query that the base workers can have at once, and one, the p99 is at most 3 times the p50 at half
    the load (simulated, 1 to 16 workers), and half of the queries is refused; at 70 % load hardly one with 8 workers.

    Args:
        workers: of the base pool, each with a core of its own.
        max_batch_size: queries that a worker takes at once.
    """
    return 2 * workers * max_batch_size + 1


@dataclass(frozen=True)
class Policy:
    """When redundancy is sent, how long is waited, and what is refused. Times are in seconds.

    k and r are the code's. With a code of k = 1 and r = 0 the policy alone makes the mode: as it stands, no redundancy;
    with a hedge delay, hedging; with a hedge delay of 0 and an infinite budget, replication.

    Args:
        group_timeout: the time that a coding group may take to fill, from its first query; then blanks fill it.
        patience: the time from its arrival during which a query is not answered with a reconstruction while its own
            answer may still come; of a non-systematic code, while further outputs of its group may. 0 takes whatever
            comes first.
        relative_patience: more patience, as a multiple of the time in which predictions of the base pool typically
            arrive: 1.5 suits any network and follows the load.
        hedge_delay: the time after which a query that is not answered goes to a second worker of the base pool.
        hedge_budget: the most hedges for each query that arrives, e.g. 0.1.
        deadline: the time after which a query gets the default prediction or fails, unless it brings its own.
        most_waiting: queries that may wait for an answer; further ones are refused. See ``most_waiting_for``.
        retries: the number of times that a failed task is sent again.
        grouping: which queries form a group.

    Raises:
        ParityError: a value is out of range.
    """

    group_timeout: float = 0.05
    patience: float = 0.0
    relative_patience: float = 0.0
    hedge_delay: float = math.inf
    hedge_budget: float = 0.1
    deadline: float = 10.0
    most_waiting: int = 1000
    retries: int = 1
    grouping: Grouping = field(default_factory=Consecutive)

    def __post_init__(self) -> None:
        for name in ("group_timeout", "patience", "relative_patience", "hedge_delay", "hedge_budget"):
            if not getattr(self, name) >= 0:
                raise ParityError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not self.deadline > 0:
            raise ParityError(f"deadline must be more than 0 seconds, not {self.deadline}.")
        if self.most_waiting < 1:
            raise ParityError(f"most_waiting must be at least 1, not {self.most_waiting}: else no query is accepted.")
        if self.retries < 0:
            raise ParityError(f"retries must be at least 0, not {self.retries}.")

    @property
    def hedges(self) -> bool:
        """Whether queries go to a second worker at all."""
        return math.isfinite(self.hedge_delay) and self.hedge_budget > 0


class HedgeBudget:
    """Counts the hedges that may be sent: never more than ``share`` of the queries that have arrived.

    Args:
        share: hedges earned with each query.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._most = max(1.0, share * _BUDGET_KEPT_FOR)
        self._left = 0.0

    def earn(self) -> None:
        """Count a query that arrived."""
        self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Return whether a hedge may be sent, and count it if so."""
        # Shares such as 0.1 add up to a little less than 1 in floating point.
        if self._left < 1 - 1e-9:
            return False
        self._left -= 1
        return True
