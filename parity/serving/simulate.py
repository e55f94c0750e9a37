"""Compare policies on simulated clusters, with the same queries and the same number of workers.

    python -m parity.serving.simulate --workers 8 --k 2 --load 0.5 --fault slow
    python -m parity.serving.simulate --k 2 4 --load 0.3 0.5 0.7 0.9 --fault slow frozen --seeds 5 --save sweep --jobs 2

Prints the latency of each policy in milliseconds, the shares of the queries that were rebuilt and hedged, and the work
that workers did for a query, in service times; with several loads, which policy is best at which. Where options list
several values, every combination is simulated. --save writes the rows, that table, and figures.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from parity.command_line import parsed, run_command
from parity.errors import ParityError
from parity.serving.disturbances import Damaged, Disturbance, Frozen, Killed, Lost, Slow, Tenant, Transfers
from parity.serving.service_times import Lognormal, ServiceTimes, Trace
from parity.serving.simulation import choice, figures, sweep
from parity.serving.simulation.arms import Setting, arms
from parity.serving.simulation.cluster import Cluster
from parity.storage.files import check_writable, write_text
from parity.terminal import progress

_log = logging.getLogger("parity.serving.simulate")

HEADER = "policy            workers     p50     p99   p99.5   p99.9{}  rebuilt  hedged  failed  work/query"
BY_SEED = "  p99.9 by seed"

# What a fault makes of the options, and how many workers it concerns where that is not given.
FAULTS: dict[str, tuple[Callable[[argparse.Namespace, float], Disturbance | None], float]] = {
    "none": (lambda args, faulty: None, 0),
    "slow": (lambda args, faulty: Slow(faulty, args.every, args.factor), 1),
    "slow_pairs": (lambda args, faulty: Slow(faulty, args.every, args.factor), 2),
    "frozen": (lambda args, faulty: Frozen(faulty, args.every, args.freeze), 1),
    "killed": (lambda args, faulty: Killed(faulty, args.every, args.restart), 1),
    "lost": (lambda args, faulty: Lost(faulty, args.every), 1),
    "damaged": (lambda args, faulty: Damaged(faulty, args.every), 1),
    "transfers": (lambda args, faulty: Transfers(faulty, args.bandwidth, args.sharing), 3),
    "tenant": (lambda args, faulty: Tenant(faulty, args.tenant_load), 1 / 9),
}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        prog="python -m parity.serving.simulate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grid = parser.add_argument_group("grid; each option takes several values")
    grid.add_argument("--workers", type=int, nargs="+", default=[8], help="workers of the base pool, m (default: 8)")
    grid.add_argument("--k", type=int, nargs="+", default=[2], help="queries in a coding group (default: 2)")
    grid.add_argument("--r", type=int, nargs="+", default=[1], help="parity queries of a group (default: 1)")
    grid.add_argument("--load", type=float, nargs="+", default=[0.5], help="of the base pool, 0 to 1 (default: 0.5)")
    grid.add_argument("--fault", choices=FAULTS, nargs="+", default=["none"], help="(default: none)")
    grid.add_argument(
        "--faulty", type=float, nargs="+",
        help="workers at a time, or below 1 their share; of transfers, how many (default: 1, pairs 2, transfers 3, "
        "tenant 1/9)",
    )  # fmt: skip

    parser.add_argument("--queries", type=int, default=10_000, help="of each simulation (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="simulations of each policy (default: %(default)s)")
    parser.add_argument("--policies", nargs="+", metavar="NAME", help=f"of {', '.join(arms(Setting()))} (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write rows, table and figures here")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

    cluster = parser.add_argument_group("cluster; times in seconds")
    cluster.add_argument("--service", type=float, default=0.1, help="mean service time (default: %(default)s)")
    cluster.add_argument("--sigma", type=float, default=0.05, help="of its logarithm (default: %(default)s)")
    cluster.add_argument("--trace", type=Path, metavar="FILE", help="measured service times, of parity.serving.load")
    cluster.add_argument("--every", type=float, default=1.5, help="when faults are redrawn (default: %(default)s)")
    cluster.add_argument("--factor", type=float, default=8.0, help="of a slow worker (default: %(default)s)")
    cluster.add_argument("--freeze", type=float, default=1.0, help="of a frozen worker (default: %(default)s)")
    cluster.add_argument("--restart", type=float, default=1.0, help="of a killed worker (default: %(default)s)")
    cluster.add_argument("--sharing", type=float, default=2.0, help="factor beside a transfer (default: %(default)s)")
    cluster.add_argument("--bandwidth", type=float, default=125, help="MB/s of a transfer (default: %(default)s)")
    cluster.add_argument("--tenant_load", type=float, default=0.05, help="of a second service (default: %(default)s)")

    policy = parser.add_argument_group("policy; times in service times")
    policy.add_argument("--patience", type=float, default=1.5, help="for the own answer (default: %(default)s)")
    policy.add_argument("--group_timeout", type=float, default=1.0, help="(default: %(default)s)")
    policy.add_argument(
        "--hedge_delay", type=float, help="(default: the one with the lowest p99, found on runs of its own)"
    )
    policy.add_argument("--hedge_budget", type=float, default=0.1, help="hedges per query (default: %(default)s)")
    policy.add_argument("--deadline", type=float, default=100.0, help="of a query (default: %(default)s)")
    policy.add_argument("--most_waiting", type=int, default=1_000_000, help="queries (default: %(default)s)")
    return parser


def cells(args: argparse.Namespace) -> list[sweep.Cell]:
    """Return all combinations of the options' values.

    Raises:
        ParityError: k does not divide a number of workers, or a value is out of range.
    """
    times: ServiceTimes = Lognormal(args.service, args.sigma) if args.trace is None else Trace.load(args.trace)
    setting = Setting(
        service=times.mean,
        patience=args.patience,
        group_timeout=args.group_timeout,
        hedge_delay=1.5 if args.hedge_delay is None else args.hedge_delay,
        hedge_budget=args.hedge_budget,
        deadline=args.deadline,
        most_waiting=args.most_waiting,
        workers=args.k[0],
        k=args.k[0],
    )
    found = []
    for workers, k, r, fault, load in product(args.workers, args.k, args.r, args.fault, args.load):
        make, usual = FAULTS[fault]
        for faulty in [usual] if args.faulty is None or fault == "none" else args.faulty:
            sized = replace(setting, workers=workers, k=k, r=r)
            arms(sized)  # refuses what a policy cannot be
            found.append(sweep.Cell(sized, fault, faulty, Cluster(times, make(args, faulty)), load))
    return found


def header(seeds: int) -> str:
    """Return the line above those of a cell."""
    return HEADER.format(BY_SEED if seeds > 1 else "")


def lines(medians: pd.DataFrame, seeds: int) -> list[str]:
    """Return a cell's lines under the header."""
    found = []
    for row in medians.to_dict("records"):
        latencies = " ".join(f"{row[name]:7.0f}" for name in ("p50", "p99", "p99.5", "p99.9"))
        spread = f"{row['p99.9 from']:.0f} to {row['p99.9 to']:.0f}".rjust(len(BY_SEED)) if seeds > 1 else ""
        shares = f"{row['rebuilt']:8.1%} {row['hedged']:7.1%} {row['failed']:7.1%}"
        found.append(f"{row['policy']:<17} {row['all_workers']:7.0f} {latencies}{spread} {shares} {row['work']:11.2f}")
    return found


def describe(cell: sweep.Cell, medians: pd.DataFrame) -> str:
    """Return the line above a cell's table."""
    setting = cell.setting
    fault = cell.fault if cell.fault == "none" else f"{cell.fault} ({cell.faulty:.3g})"
    hedged = f", hedged after {medians['hedge_delay'].iloc[0]:g} service times"
    return f"m = {setting.workers}, k = {setting.k}, r = {setting.r}, load {cell.load:.0%}, {fault}{hedged}"


def main(args: argparse.Namespace) -> None:
    """Simulate each policy and print the tables."""
    grid = cells(args)
    if args.seeds < 1 or args.jobs < 1:
        raise ParityError(f"seeds and jobs must be at least 1, not {args.seeds} and {args.jobs}.")
    if args.save is not None:
        check_writable(args.save)
    policies = tuple(args.policies or arms(Setting()))
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    plan = sweep.Sweep(policies, args.queries, seeds, tune=None if args.hedge_delay is not None else 99)
    with progress("cells", len(grid)) as advance:
        results = sweep.run(plan, grid, args.jobs, advance)
    for cell, rows in zip(grid, results, strict=True):
        medians = sweep.over_seeds(sweep.table(rows))
        for line in (describe(cell, medians), header(args.seeds), *lines(medians, args.seeds)):
            _log.info(line)
    rows = sweep.table([row for found in results for row in found])
    if len(args.load) > 1:
        _log.info(choice.markdown(rows))
    if args.save is not None:
        save(rows, args.save)


def save(rows: pd.DataFrame, folder: Path) -> None:
    """Write rows, table and figures."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "rows.csv", rows.to_csv(index=False))
    write_text(folder / "choice.md", choice.markdown(rows) + "\n")
    if rows["load"].nunique() > 1:
        for name, figure in figures.figures(rows):
            figures.save(figure, folder, name)


if __name__ == "__main__":
    sys.exit(run_command(main, parsed(get_parser())))
