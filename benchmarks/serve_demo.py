"""What does a code do for users while workers stall? ``make serve-demo``: in two minutes, from nothing.

Trains Digits' positional code ``mlp_k2_cells_kl`` if it is not there, serves it on two base workers per core, as
threads, stalls a random worker every half second for 0.4 s, and prints what users got: without redundancy, with hedged
requests, and coded. All three have the same queries at the same times and the same stalls; hedged and coded have half
as many workers more. Workers take 50 ms, most of it asleep, so that the latencies are those of the policies and not of
the cores.
"""

import argparse
import asyncio
import logging
import os
from pathlib import Path

import torch
from rich.table import Table

from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.serving import Source
from parity.serving.disturbances import Frozen
from parity.serving.measuring.contest import Contender, Load, Outcome, at_once
from parity.serving.measuring.live import shown
from parity.serving.measuring.open_loop import due_times
from parity.serving.measuring.services import Networks, service
from parity.serving.measuring.workers import Sleeping
from parity.serving.simulation import Setting, arms
from parity.terminal import console
from parity.training import Hardware

_log = logging.getLogger("parity")

SERVICE, LOAD = 0.05, 0.5
MOST_WORKERS = 16  # one process asks three services, and can ask only so many queries a second
STALLS = Frozen(every=0.5, freeze=0.4)
ARMS = {"none": "no redundancy", "hedged": "hedged", "coded": "coded"}
SECONDS = 30.0


def trained(runs: Path) -> Experiment:
    """Return Digits' positional code, trained."""
    experiment = Experiment("Digits", "mlp_k2_cells_kl", base_directory=runs)
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")))
    return experiment


def contenders(model: CodedModel, workers: int) -> dict[str, Contender]:
    """Return the three services."""
    known, found = arms(Setting(workers, model.k, service=SERVICE, patience=2.0, hedge_delay=2.0)), {}
    for name in ARMS:
        served, pool = service(
            "threads", name, known[name], Networks(model), lambda network, cost: Sleeping(network, SERVICE * cost)
        )
        found[name] = Contender(served, known[name].policy, pool)
    return found


def table(services: dict[str, Contender], outcomes: dict[str, Outcome]) -> Table:
    """Return what users got."""
    found = Table(title="latency in ms, a worker stalled for 0.4 s every 0.5 s")
    for heading in ("policy", "workers", "p50", "p95", "p99", "longest", "rebuilt", "right"):
        found.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, outcome in outcomes.items():
        histogram, workers = outcome.record.all, len(services[name].pool.health())
        times = [f"{1000 * value:.0f}" for value in (*histogram.percentiles((50, 95, 99)), histogram.max)]
        rebuilt, right = outcome.record.share(Source.REBUILT), outcome.summary()["accuracy"]
        found.add_row(ARMS[name], str(workers), *times, f"{rebuilt:.1%}", f"{right:.1%}")
    return found


async def serve(services: dict[str, Contender], load: Load) -> dict[str, Outcome]:
    """Offer the load to all at once, and show how the coded service does."""
    outcomes = {name: Outcome() for name in services}
    async with shown(outcomes["coded"].record, len(load.due), services["coded"].pool.health):
        await at_once(services, load, outcomes)
    return outcomes


def main(args: argparse.Namespace) -> None:
    """Train, serve, print."""
    torch.set_num_threads(1)  # networks this small gain nothing from a second, and threads wait for each other busily
    experiment = trained(args.runs)
    model = experiment.load_trained_model("best")
    assert isinstance(model, CodedModel)
    batches = [
        (queries.flatten(0, 1), labels.flatten()) for queries, labels, _ in experiment.get_datamodule().loader("test")
    ]
    queries, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    workers = args.workers or 2 * (os.cpu_count() or 1)
    rate = LOAD * workers / SERVICE
    load = Load(queries, due_times(rate, round(rate * args.seconds)), labels, STALLS)
    services = contenders(model.eval(), workers)
    _log.info("%d queries at %.0f a second, %d base workers, %.0f s", len(load.due), rate, workers, args.seconds)
    console().print(table(services, asyncio.run(serve(services, load))))


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("experiments"), help="where the code is trained")
    parser.add_argument("--workers", type=int, help="of the base model (default: two for each core, at most 16)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of load (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(run_command(main, get_parser().parse_args()))
