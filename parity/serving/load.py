"""Offer load to a service and report its latencies, which count from the moment at which a query was due.

    python -m parity.serving.load --url http://127.0.0.1:8000 --shape 1 28 28 --rate 40 --queries 3000
    python -m parity.serving.load --workers 8 --k 2 --load 0.5 --policy coded --fault slow --save coded
    python -m parity.serving.load --url http://127.0.0.1:8000 --npy queries.npy --body npy --rate 400 --save npy
    python -m parity.serving.load --workers 8 --policy none --load 0.5 --trace trace.json

With --url the service is asked over HTTP, else one is made in this process, whose workers sleep (--service, --sigma) or
compute (--compute), and to which faults can happen. Queries arrive at random (Poisson), whatever became of earlier
ones. --save writes NAME.json, and NAME.csv with HdrHistogram's percentile distribution; --trace writes service times
for parity.serving.simulate.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import LinearDecoder, LinearEncoder
from parity.command_line import parsed, run_command
from parity.errors import ParityError, did_you_mean
from parity.serving.disturbances import Damaged, Disturbance, Frozen, Killed, Lost, Slow
from parity.serving.measuring.asking import BODIES, in_process, over_http, random_queries, whole_numbers
from parity.serving.measuring.faults import disturbed, hush
from parity.serving.measuring.live import Health, shown, view
from parity.serving.measuring.open_loop import Ask, due_times, load_is_offered, offer
from parity.serving.measuring.record import Record
from parity.serving.measuring.services import Networks, service
from parity.serving.measuring.traced_pool import TracedPool
from parity.serving.measuring.workers import Computing, Sleeping
from parity.serving.pools import ENGINES, WorkerHealth
from parity.serving.server import CodedServer
from parity.serving.simulation.arms import Setting, arms
from parity.storage.files import check_output, write_output, write_text
from parity.terminal import console

_log = logging.getLogger("parity.serving.load")

FAULTS: dict[str, Callable[[argparse.Namespace], Disturbance | None]] = {
    "none": lambda args: None,
    "slow": lambda args: Slow(args.faulty, args.every, args.factor),
    "frozen": lambda args: Frozen(args.faulty, args.every, args.freeze),
    "killed": lambda args: Killed(args.faulty, args.every),
    "lost": lambda args: Lost(args.faulty, args.every),
    "damaged": lambda args: Damaged(args.faulty, args.every),
}

_QUERY = (8,)
"""Shape of a query to a service that is made here."""


@dataclass
class Target:
    """What is asked.

    Attributes:
        ask: asks it.
        health: returns its workers' states, where these are known.
        pool: traced, of a service in this process.
    """

    ask: Ask
    health: Health = lambda: ()
    pool: TracedPool[Tensor, Tensor] | None = None


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        prog="python -m parity.serving.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--queries", type=int, default=3000, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, help="queries a second")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and faults (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="NAME", help="write NAME.json and NAME.csv")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

    http = parser.add_argument_group("a service over HTTP")
    http.add_argument("--url", help="of the service, e.g. http://127.0.0.1:8000")
    http.add_argument("--shape", type=int, nargs="+", metavar="N", help="of a query; random ones of its type are sent")
    http.add_argument("--npy", type=Path, metavar="FILE", help="queries (N, *Q) to send, in order, again and again")
    http.add_argument("--body", choices=BODIES, default="json", help="form of queries (default: %(default)s)")
    http.add_argument("--connections", type=int, default=256, help="at most so many at a time (default: %(default)s)")
    http.add_argument("--timeout", type=float, default=30.0, help="seconds of a query (default: %(default)s)")

    own = parser.add_argument_group("a service in this process; times of its policy in service times")
    own.add_argument("--load", type=float, default=0.5, help="of the base pool, without --rate (default: %(default)s)")
    own.add_argument("--engine", choices=ENGINES, default="threads", help="(default: %(default)s)")
    own.add_argument("--policy", default="coded", help=f"of {', '.join(arms(Setting()))} (default: %(default)s)")
    own.add_argument("--workers", type=int, default=8, help="of the base pool (default: %(default)s)")
    own.add_argument("--k", type=int, default=2, help="queries in a coding group (default: %(default)s)")
    own.add_argument("--r", type=int, default=1, help="parity queries of a group (default: %(default)s)")
    own.add_argument("--patience", type=float, default=1.5, help="for the own answer (default: %(default)s)")
    own.add_argument("--group_timeout", type=float, default=1.0, help="(default: %(default)s)")
    own.add_argument("--hedge_delay", type=float, default=1.5, help="(default: %(default)s)")
    own.add_argument("--hedge_budget", type=float, default=0.1, help="hedges per query (default: %(default)s)")
    own.add_argument("--deadline", type=float, default=100.0, help="of a query (default: %(default)s)")
    own.add_argument("--service", type=float, default=0.1, help="mean service time in s (default: %(default)s)")
    own.add_argument("--sigma", type=float, default=0.05, help="of its logarithm (default: %(default)s)")
    own.add_argument(
        "--compute",
        action="store_true",
        help="let workers compute, for as long as that takes, in place of sleeping",
    )
    own.add_argument("--trace", type=Path, metavar="FILE", help="write the service times; use it without faults")

    fault = parser.add_argument_group("faults of a service in this process; times in seconds")
    fault.add_argument("--fault", choices=FAULTS, default="none", help="(default: %(default)s)")
    fault.add_argument("--faulty", type=float, default=1, help="workers at a time (default: %(default)s)")
    fault.add_argument("--every", type=float, default=1.5, help="when they are redrawn (default: %(default)s)")
    fault.add_argument("--factor", type=float, default=8.0, help="of a slow worker (default: %(default)s)")
    fault.add_argument("--freeze", type=float, default=1.0, help="of a frozen worker (default: %(default)s)")
    return parser


def http_queries(args: argparse.Namespace, below: tuple[int, int] | None = None) -> Tensor:
    """Return the queries to send over HTTP, (N, *Q).

    Args:
        args: the options.
        below: the limits of random numbers that are whole, as of ``random_queries``.

    Raises:
        ParityError: neither a shape nor a file is given, or the file holds no queries.
    """
    if args.npy is None:
        if not args.shape:
            raise ParityError("a service over HTTP is sent queries of some --shape, or those of an --npy file.")
        return random_queries(args.shape, below=below)
    if not os.path.isfile(args.npy):  # a pipe would be waited for
        raise ParityError(f"there is no file {args.npy}: name one that numpy.save has written.")
    try:
        queries = torch.from_numpy(np.load(args.npy, allow_pickle=False)).float()
    except (OSError, ValueError, TypeError, MemoryError) as error:
        raise ParityError(f"{args.npy} is not a file of numbers that numpy.save has written.") from error
    if queries.ndim < 2 or not len(queries):
        raise ParityError(f"{args.npy} holds an array {tuple(queries.shape)}, and queries are (N, *Q).")
    return queries


def linear_networks(k: int, r: int) -> CodedModel:
    """Return a linear network and its code, which is exact: what a measurement of latency serves."""
    base, encoder = nn.Linear(*_QUERY, 2, bias=False), LinearEncoder(k, r, _QUERY)
    return CodedModel(base, encoder, [base] * r, LinearDecoder(k, r, (2,)))


def work(args: argparse.Namespace) -> Callable[[nn.Module, float], Callable[[Tensor], Tensor]]:
    """Return what makes a worker's work of a network."""
    if args.compute:
        return lambda network, cost: Computing(network, layers=max(1, round(8 * cost)))
    return lambda network, cost: Sleeping(network, args.service * cost, args.sigma)


@asynccontextmanager
async def target(args: argparse.Namespace) -> AsyncIterator[Target]:
    """Yield what is asked, with its faults."""
    async with AsyncExitStack() as stack:
        if args.url is not None:
            queries = http_queries(args, await whole_numbers(args.url, args.timeout))
            client = over_http(args.url, queries, args.connections, args.timeout, args.body)
            yield Target(await stack.enter_async_context(client))
            return
        setting = setting_of(args)
        arm = arms(setting)[args.policy]
        networks = Networks(linear_networks(args.k, args.r))
        model, workers = service(args.engine, args.policy, arm, networks, work(args))
        pool = TracedPool(workers)
        server = await stack.enter_async_context(CodedServer(model, arm.policy, pool))
        await stack.enter_async_context(disturbed(FAULTS[args.fault](args), pool.faults, sum(arm.workers), args.seed))
        yield Target(in_process(server, random_queries(_QUERY)), pool.health, pool)


def setting_of(args: argparse.Namespace) -> Setting:
    """Return size and times of a service in this process."""
    return Setting(
        workers=args.workers,
        k=args.k,
        r=args.r,
        service=args.service,
        patience=args.patience,
        group_timeout=args.group_timeout,
        hedge_delay=args.hedge_delay,
        hedge_budget=args.hedge_budget,
        deadline=args.deadline,
    )


def check(args: argparse.Namespace) -> None:
    """Refuse options that make no sense, before any work.

    Raises:
        ParityError: which.
    """
    if args.url is not None:
        if args.rate is None:
            raise ParityError("a service over HTTP needs a --rate: its load is not known here.")
        if args.fault != "none" or args.trace is not None:
            raise ParityError("faults and traces are of a service in this process: leave --url out.")
        if not args.url.startswith(("http://", "https://")):
            raise ParityError(f"a URL begins with http:// or https://, not '{args.url}'.")
        http_queries(args)
    else:
        known = arms(setting_of(args))
        if args.policy not in known:
            raise ParityError(f"there is no policy '{args.policy}': {did_you_mean(args.policy, known)}")
        FAULTS[args.fault](args)
    if args.connections < 1 or not args.timeout > 0:
        raise ParityError(f"connections and timeout must be above 0, not {args.connections} and {args.timeout}.")
    due_times(rate_of(args), args.queries)
    if args.save is not None:
        for path in saved_files(args.save):
            check_output(path)
    if args.trace is not None:
        check_output(args.trace)


def saved_files(path: Path) -> tuple[Path, Path]:
    """Return the files that are written by a name, NAME.json and NAME.csv.

    Raises:
        ParityError: it is not the name of a file.
    """
    if not path.name or path.name == "..":
        raise ParityError(f"--save takes the name of a file without its ending, not '{path}'.")
    return path.with_name(f"{path.name}.json"), path.with_name(f"{path.name}.csv")


def rate_of(args: argparse.Namespace) -> float:
    """Return the queries a second."""
    rate: float = args.load * args.workers / args.service if args.rate is None else args.rate
    return rate


async def offer_load(args: argparse.Namespace) -> tuple[Record, TracedPool[Tensor, Tensor] | None, list[WorkerHealth]]:
    """Offer the load; return what became of it, the pool, and the workers' last states."""
    record = Record()
    async with target(args) as asked:
        async with shown(record, args.queries, asked.health):
            await offer(asked.ask, due_times(rate_of(args), args.queries, args.seed), record)
        return record, asked.pool, list(asked.health())


def main(args: argparse.Namespace) -> None:
    """Offer the load, print the table, write the files."""
    check(args)
    if args.fault != "none":
        hush()
    record, pool, workers = asyncio.run(offer_load(args))
    console().print(view(record, args.queries, workers))
    if (warning := load_is_offered(record, rate_of(args))) is not None:
        _log.warning(warning)
    if args.save is not None:
        summary, percentiles = saved_files(args.save)
        write_output(summary, {"command": options(args), **record.summary()})
        write_text(percentiles, record.all.csv())
    if args.trace is not None and pool is not None:
        pool.trace().save(args.trace)


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options as plain values."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


if __name__ == "__main__":
    sys.exit(run_command(main, parsed(get_parser())))
