"""What the service's defaults for patience and for the number of waiting queries do, simulated: alike on any machine.

    python benchmarks/serving_defaults.py          a minute

Writes serving_patience.json, latencies without and with patience, of a service with a slow worker and of one without a
fault; and serving_overload.json, what becomes of queries at half, at 70 % and at twice the load that workers can take.
"""

from typing import Any

import store

from parity.serving import most_waiting_for
from parity.serving.commands import Reason, Source
from parity.serving.disturbances import Slow
from parity.serving.simulation import Cluster, Lognormal, Result, Setting, arms, simulate

QUERIES, SEED = 10_000, 0
LOADS = (0.3, 0.5, 0.7)
WORKERS = (1, 2, 4, 8, 16)

Row = dict[str, Any]


def simulated(setting: Setting, arm: str, load: float, cluster: Cluster) -> Result:
    """Simulate a policy at a load of the base pool."""
    return simulate(arms(setting)[arm], cluster, load * setting.workers / setting.service, QUERIES, seed=SEED)


def patience(load: float) -> Row:
    """Return milliseconds and the share of rebuilt answers, without patience and with the default one."""
    row: Row = {"load": load, "workers": 8, "k": 2}
    slow, whole = Cluster(Lognormal(), Slow()), Cluster(Lognormal())
    for name, waited in (("hasty", 0.0), ("patient", 1.5)):
        found = simulated(Setting(patience=waited), "coded", load, slow)
        row |= {f"{name}_p{percent}": round(1000 * found.percentile(percent), 1) for percent in (50, 99, 99.9)}
        row[f"{name}_rebuilt"] = round(found.share(Source.REBUILT), 4)
        healthy = simulated(Setting(patience=waited), "coded", load, whole)
        row[f"{name}_rebuilt_without_a_fault"] = round(healthy.share(Source.REBUILT), 4)
    return {name.replace(".", "_"): value for name, value in row.items()}


def overload(workers: int) -> Row:
    """Return the p99 of what is accepted at twice the load, over the p50 at half of it, and the shares refused."""
    setting = Setting(workers=workers, k=1, most_waiting=most_waiting_for(workers))
    half, most, double = (simulated(setting, "none", load, Cluster(Lognormal())) for load in (0.5, 0.7, 2.0))
    return {
        "workers": workers,
        "p99_over_p50": round(double.percentile(99) / half.percentile(50), 2),
        "refused": round(double.failures[Reason.REFUSED] / QUERIES, 4),
        "refused_at_70": round(most.failures[Reason.REFUSED] / QUERIES, 4),
    }


def main() -> None:
    """Simulate both, and keep the rows."""
    about = "Simulated, one of 8 base workers 8 times slower: without patience, and with 1.5 service times of it"
    store.write("serving_patience", about, [patience(load) for load in LOADS], seeds=[SEED])
    about = "Simulated, as many waiting queries as serve.py allows: twice the load that the workers can take"
    store.write("serving_overload", about, [overload(workers) for workers in WORKERS], seeds=[SEED])


if __name__ == "__main__":
    main()
