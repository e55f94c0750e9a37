"""The policies that are compared: all with the same number of workers, but for the one without redundancy."""

import math
from dataclasses import dataclass

from parity.errors import ParityError
from parity.serving.policy import Policy
from parity.serving.simulation.cluster import Arm, CountingCode

HEDGED = ("hedged", "coded_hedged")
"""Arms that hedge within a budget."""


@dataclass(frozen=True)
class Setting:
    """How large a service is, and what its policies wait for; times are in mean service times.

    Args:
        workers: of the base pool, m.
        k: queries in a coding group.
        r: parity queries of a group.
        service: mean service time, in seconds.
        patience: with the own answer.
        group_timeout: the time that a group may take to fill.
        hedge_delay: the time after which a query is hedged.
        hedge_budget: hedges for each query.
        deadline: the time after which a query fails; answers that are lost would else be waited for without end.
        most_waiting: queries that may wait.

    Raises:
        ParityError: k does not divide the number of workers, or a value is out of range.
    """

    workers: int = 8
    k: int = 2
    r: int = 1
    service: float = 0.1
    patience: float = 1.5
    group_timeout: float = 1.0
    hedge_delay: float = 1.5
    hedge_budget: float = 0.1
    deadline: float = 100.0
    most_waiting: int = 1_000_000

    def __post_init__(self) -> None:
        if min(self.workers, self.k, self.r) < 1 or self.workers % self.k:
            raise ParityError(
                "k must divide the workers of the base pool, and all be at least 1, "
                f"not {self.workers} workers, k = {self.k} and r = {self.r}."
            )
        if not 0 < self.service < math.inf:
            raise ParityError(f"service must be more than 0 seconds, not {self.service}.")

    def policy(self, hedge_delay: float = math.inf, hedge_budget: float = 0.0) -> Policy:
        """Return a policy with this setting's times, in seconds; the hedge delay is given in service times."""
        return Policy(
            group_timeout=self.group_timeout * self.service,
            patience=self.patience * self.service,
            hedge_delay=hedge_delay * self.service,
            hedge_budget=hedge_budget,
            deadline=self.deadline * self.service,
            most_waiting=self.most_waiting,
        )


def arms(setting: Setting) -> dict[str, Arm]:
    """Return the policies by name: all with m + r m / k workers, but for ``none``, which has m."""
    m, k, r = setting.workers, setting.k, setting.r
    total = m + r * (m // k)
    pools = (m, *[m // k] * r)
    uncoded, coded = CountingCode(1, 0), CountingCode(k, r)
    plain, hedged = setting.policy(), setting.policy(setting.hedge_delay, setting.hedge_budget)
    return {
        "none": Arm(plain, uncoded, (m,)),
        "equal": Arm(plain, uncoded, (total,)),
        "replicated": Arm(setting.policy(0.0, math.inf), uncoded, (total,)),
        "hedged": Arm(hedged, uncoded, (total,)),
        "backup": Arm(plain, CountingCode(1, 1), (m, total - m), costs=(1.0, (total - m) / m)),
        "coded": Arm(plain, coded, pools),
        "positional": Arm(plain, CountingCode(k, r, needed=1), pools),
        "coded_hedged": Arm(hedged, coded, pools),
        "nonsystematic": Arm(plain, CountingCode(k, r, systematic=False), (total,)),
    }
