"""Serve a code that was trained, over HTTP: predictions on time although a worker is slow or dead.

parity serve --dataset MNIST --experiment_name mlp_k4_cells_kl --workers 8
parity serve experiments/MNIST/original/mlp_k2_add --workers 8 --engine processes --patience 0.02
parity serve mine/ --workers 8      # an artefact that parity export or result.save has written
"""

import argparse
import asyncio
import importlib.util
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from parity.command_line import add_experiment_arguments
from parity.errors import ParityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from parity.serving import Policy, Servable

_NEEDED = ("fastapi", "prometheus_client", "uvicorn")
_RELATIVE_PATIENCE = 1.5


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="FOLDER", help="folder of the run or of an artefact, instead of names"
    )
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", metavar="NAME", help="name of the experiment to serve")
    parser.add_argument(
        "--reload", default="best", metavar="NAME", help="checkpoint: best, last or epoch_<N> (default: %(default)s)"
    )
    parser.add_argument("--ema", action="store_true", help="serve the averaged weights of that checkpoint")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

    workers = parser.add_argument_group("workers")
    workers.add_argument(
        "--engine", default="threads", metavar="NAME", help="threads, processes or ray (default: %(default)s)"
    )
    workers.add_argument(
        "--address", metavar="ADDRESS", help="Ray cluster to join, or 'auto' (default: one is started on this machine)"
    )
    workers.add_argument(
        "--workers", type=int, default=8, metavar="N",
        help="base workers; each parity model gets 1 / k of them (default: %(default)s)",
    )  # fmt: skip
    workers.add_argument(
        "--max_batch_size", type=int, default=1, metavar="N",
        help="the most queries that a worker takes at once (default: %(default)s)",
    )  # fmt: skip
    workers.add_argument(
        "--batch_wait", type=float, default=0.0, metavar="S",
        help="seconds that an idle worker waits for a fuller batch (default: %(default)s)",
    )  # fmt: skip

    policy = parser.add_argument_group("policy, times in seconds")
    policy.add_argument(
        "--patience", type=float, metavar="S",
        help="time that a query's own prediction is waited for while a rebuilt one is there "
        f"(default: {_RELATIVE_PATIENCE} times what own predictions typically take)",
    )  # fmt: skip
    policy.add_argument(
        "--group_timeout", type=float, default=0.05, metavar="S",
        help="time that a coding group may take to fill (default: %(default)s)",
    )  # fmt: skip
    policy.add_argument(
        "--hedge_delay", type=float, default=math.inf, metavar="S",
        help="time after which a second worker gets a query too (default: never)",
    )  # fmt: skip
    policy.add_argument(
        "--hedge_budget", type=float, default=0.1, metavar="F",
        help="the most such copies for each query (default: %(default)s)",
    )  # fmt: skip
    policy.add_argument(
        "--deadline", type=float, default=10.0, metavar="S",
        help="time after which a query has failed; clients may ask for less (default: %(default)s)",
    )  # fmt: skip
    policy.add_argument(
        "--most_waiting", type=int, metavar="N",
        help="queries that may wait, further ones get 503 "
        "(default: 2 for each base worker and item of its batch, and 1)",
    )  # fmt: skip
    policy.add_argument(
        "--default_class", type=int, metavar="C",
        help="class to predict where there is no prediction, for clients that accept it (default: none)",
    )  # fmt: skip
    return parser


def main(args: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    if bool(args.run) == bool(args.dataset and args.experiment_name):
        raise ParityError("name a --dataset and an --experiment_name to serve, or the folder of a run.")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ParityError(f"serving needs {missing[0]}, which is not installed: pip install 'parity[serve]'.")
    from parity.experiments import catalogue
    from parity.serving import Batching, Service, make_pool, ray_metrics
    from parity.serving.listening import listen, serve_http

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    policy, batching = _policy(args), Batching(args.max_batch_size, args.batch_wait)
    if batching.max_batch_size > 1 and batching.batch_wait >= policy.deadline:
        raise ParityError(
            f"a batch waits for others for {batching.batch_wait:g} s, and queries have {policy.deadline:g} s: choose a "
            "--batch_wait below the --deadline."
        )
    pool = partial(make_pool, args.engine, workers=args.workers, batching=batching, address=args.address)
    watch = ray_metrics.export if args.engine == "ray" else None
    with listen(args.host, args.port) as listening:
        asyncio.run(serve_http(Service(_loader(args), pool, policy), listening, watch=watch))


def _loader(args: argparse.Namespace) -> "Callable[[], Servable]":
    """Return what loads the artefact or the run that is named."""
    from parity.runs.naming import OF_RUNS, check_folder_alone, named_run, run_in
    from parity.runs.serving import load_artefact, load_servable

    if args.run and (args.run / "manifest.json").is_file():
        check_folder_alone(args, (*OF_RUNS, "overrides", "reload", "ema"))
        return partial(load_artefact, args.run, default_class=args.default_class)
    experiment = run_in(args, args.run) if args.run else named_run(args, args.experiment_name)
    return partial(load_servable, experiment, reload=args.reload, ema=args.ema, default_class=args.default_class)


def _policy(args: argparse.Namespace) -> "Policy":
    from parity.serving import Policy, most_waiting_for

    most_waiting = args.most_waiting
    if most_waiting is None:
        most_waiting = most_waiting_for(args.workers, args.max_batch_size)
    return Policy(
        group_timeout=args.group_timeout,
        patience=args.patience or 0.0,
        relative_patience=_RELATIVE_PATIENCE if args.patience is None else 0.0,
        hedge_delay=args.hedge_delay,
        hedge_budget=args.hedge_budget,
        deadline=args.deadline,
        most_waiting=most_waiting,
    )
