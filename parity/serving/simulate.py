"""Compare policies on a simulated cluster, with the same queries and the same number of workers.

    python -m parity.serving.simulate --workers 8 --k 2 --load 0.5 --fault slow

Prints the latency of each policy in milliseconds, the shares of the queries that were rebuilt and hedged, and the work
that workers did for a query, in service times.
"""

import argparse
import logging
import math
import sys
from collections.abc import Iterable

from parity.command_line import run_command
from parity.errors import ParityError, did_you_mean
from parity.serving.commands import Source
from parity.serving.policy import Policy
from parity.serving.simulation import FAULTS, Arm, Cluster, CountingCode, Result, simulate

_log = logging.getLogger("parity.serving.simulate")

HEADER = "policy            workers     p50     p99   p99.9  rebuilt  hedged  failed  work/query"


def arms(args: argparse.Namespace) -> dict[str, Arm]:
    """Return the policies by name: all with m + r m / k workers, but for ``none``, which has m.

    Raises:
        ParityError: k does not divide the number of workers, or a value is out of range.
    """
    m, k, r = args.workers, args.k, args.r
    if min(m, k, r) < 1 or m % k:
        raise ParityError(
            f"k must divide the workers of the base pool, and all be at least 1, not {m} workers, k = {k} and r = {r}."
        )
    parity_workers = m // k
    total = m + r * parity_workers
    uncoded, coded = CountingCode(1, 0), CountingCode(k, r)
    times = dict(
        group_timeout=args.group_timeout * args.service,
        patience=args.patience * args.service,
        deadline=math.inf if args.deadline is None else args.deadline,
        most_waiting=args.most_waiting,
    )
    hedge = dict(hedge_delay=args.hedge_delay * args.service, hedge_budget=args.hedge_budget)
    plain, hedged = Policy(**times), Policy(**times, **hedge)
    replicated = Policy(**times, hedge_delay=0.0, hedge_budget=math.inf)
    pools = (m, *[parity_workers] * r)
    return {
        "none": Arm(plain, uncoded, (m,)),
        "equal": Arm(plain, uncoded, (total,)),
        "replicated": Arm(replicated, uncoded, (total,)),
        "hedged": Arm(hedged, uncoded, (total,)),
        "backup": Arm(plain, CountingCode(1, 1), (m, total - m), costs=(1.0, (total - m) / m)),
        "coded": Arm(plain, coded, pools),
        "coded_hedged": Arm(hedged, coded, pools),
        "nonsystematic": Arm(plain, CountingCode(k, r, systematic=False), (total,)),
    }


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        prog="python -m parity.serving.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=8, help="workers of the base pool, m (default: %(default)s)")
    parser.add_argument("--k", type=int, default=2, help="queries in a coding group (default: %(default)s)")
    parser.add_argument("--r", type=int, default=1, help="parity queries of a group (default: %(default)s)")
    parser.add_argument("--load", type=float, default=0.5, help="of the base pool, 0 to 1 (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--policies", nargs="+", metavar="NAME", help="which to simulate (default: all)")

    cluster = parser.add_argument_group("cluster; times in seconds")
    cluster.add_argument("--service", type=float, default=0.1, help="mean service time (default: %(default)s)")
    cluster.add_argument("--sigma", type=float, default=0.05, help="of its logarithm (default: %(default)s)")
    cluster.add_argument("--fault", choices=FAULTS, default="none", help="(default: %(default)s)")
    cluster.add_argument("--faulty", type=int, default=1, help="workers at a time (default: %(default)s)")
    cluster.add_argument("--every", type=float, default=1.5, help="when they are redrawn (default: %(default)s)")
    cluster.add_argument("--factor", type=float, default=8.0, help="of a slow worker (default: %(default)s)")
    cluster.add_argument("--freeze", type=float, default=1.0, help="of a frozen worker (default: %(default)s)")

    policy = parser.add_argument_group("policy; times in service times")
    policy.add_argument("--patience", type=float, default=1.5, help="with the own answer (default: %(default)s)")
    policy.add_argument("--group_timeout", type=float, default=1.0, help="(default: %(default)s)")
    policy.add_argument("--hedge_delay", type=float, default=1.5, help="(default: %(default)s)")
    policy.add_argument("--hedge_budget", type=float, default=0.1, help="hedges per query (default: %(default)s)")
    policy.add_argument("--deadline", type=float, help="seconds after which a query fails (default: never)")
    policy.add_argument("--most_waiting", type=int, default=1_000_000, help="queries (default: %(default)s)")
    return parser


def row(name: str, arm: Arm, result: Result) -> str:
    """Return a policy's line under ``HEADER``."""
    times = " ".join(f"{1000 * result.percentile(percent):7.0f}" for percent in (50, 99, 99.9))
    shares = f"{result.share(Source.REBUILT):8.1%} {result.share(Source.HEDGE):7.1%}"
    failed = result.failures.total() / result.queries
    return f"{name:<17} {sum(arm.workers):7d} {times} {shares} {failed:7.1%} {result.work_per_query:11.2f}"


def chosen(names: Iterable[str] | None, known: dict[str, Arm]) -> dict[str, Arm]:
    """Return the named policies, or all.

    Raises:
        ParityError: a name that is unknown.
    """
    if names is None:
        return known
    for name in names:
        if name not in known:
            raise ParityError(f"there is no policy '{name}': {did_you_mean(name, known)}")
    return {name: known[name] for name in names}


def main(args: argparse.Namespace) -> None:
    """Simulate each policy and print the table."""
    cluster = Cluster(args.service, args.sigma, args.fault, args.faulty, args.every, args.factor, args.freeze)
    simulated = chosen(args.policies, arms(args))
    rate = args.load * args.workers / args.service
    _log.info(HEADER)
    for name, arm in simulated.items():
        _log.info(row(name, arm, simulate(arm, cluster, rate, args.queries, args.seed)))


if __name__ == "__main__":
    sys.exit(run_command(main, get_parser().parse_args()))
