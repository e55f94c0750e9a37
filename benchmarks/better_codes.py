"""How much do positional codes lose? Beside the original recipe, three seeds each; and the recipe's ablation.

    python benchmarks/better_codes.py [--table mnist ablation digits cifar10 fsdd] [--seeds 0 1 2]

The base model is the published one on MNIST, elsewhere the data set's own, trained by its plain recipe first. Beyond
MNIST, original and positional codes are trained for the same number of epochs. Test data is looked at once a run.
A run that was cut off is resumed, and each finished one is a file under ``results/better_codes``: the same command
again fills the gaps. ``benchmarks/tables.py`` puts them into the tables of the docs.

All of it took 7 hours of one core: run two processes, ``--table cifar10 mnist`` and ``--table fsdd ablation digits``.

    python benchmarks/better_codes.py --time        epochs of both recipes on MNIST in turns
"""

import argparse
import hashlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import store
import tables

from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.errors import ParityError
from parity.evaluation import evaluate_code
from parity.evaluation.costs import parity_model_costs
from parity.experiments import Experiment
from parity.experiments.MNIST.ablation.experiment_parameters import ABOUT
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

CODES = ((2, ""), (3, ""), (4, ""), (8, ""), (4, "_r2"))
"""k, and the end of the name."""

BESIDE = ("add", "cells", "cells_kl")
"""Codes, by the end of their names."""

EPOCHS = 4
"""Of a run that is timed."""


@dataclass(frozen=True)
class Table:
    """Codes of a data set, and what is changed in their configs."""

    dataset: str
    title: str
    names: Sequence[str]
    overrides: dict[str, Any] = field(default_factory=dict)
    published_base: bool = False


TABLES = dict(
    mnist=Table(
        "MNIST",
        "MNIST, published base model, 50 epochs",
        [f"mlp_k{k}_{code}{more}" for code in ("cells", "cells_kl") for k, more in CODES],
        published_base=True,
    ),
    ablation=Table(
        "MNIST",
        "MNIST, published base model, 20 epochs",
        list(ABOUT),
        published_base=True,
    ),
    digits=Table("Digits", "Digits, 200 epochs", [f"mlp_k{k}_{code}" for k in (2, 4) for code in BESIDE]),
    cifar10=Table(
        "CIFAR10",
        "CIFAR-10 (JPEG), small ResNet, 6 epochs, parity models in bf16-mixed",
        [f"small_resnet_k{k}_{code}" for k in (2, 4) for code in BESIDE],
        {"trainer.precision": "bf16-mixed"},
    ),
    fsdd=Table(
        "FSDD",
        "Spoken digits (FSDD), LeNet, 20 epochs",
        [f"lenet_k{k}_{code}" for k in (2, 4) for code in BESIDE],
        {"trainer.max_epochs": 20},
    ),
)


def run(table: Table, name: str, seed: int, args: argparse.Namespace) -> None:
    """Train and evaluate a run, where that is not done."""
    experiment = Experiment(table.dataset, name, seed=seed, overrides=table.overrides, base_directory=args.runs)
    config, result = config_hash(experiment), f"better_codes/{table.dataset}-{name}-seed{seed}"
    if result not in store.names("better_codes"):
        options = RunOptions(hardware=Hardware(args.accelerator), refresh_rate=1000)
        began = time.monotonic()
        run_training(experiment, options, args.weights if table.published_base else None)
        seconds = time.monotonic() - began
        row = evaluated(experiment) | {"seconds": seconds}
        store.write(result, f"{table.dataset} {name}, on test data", [row], config=config, seeds=[seed])
    check_config(result, experiment)


def config_hash(experiment: Experiment) -> str:
    """Return the hash of a run's settings, without ``fused``, which changes the rounding of its steps alone.

    Nor does it have the version of what settings are written as: no config here has what later ones added.
    """
    plain = experiment.identity(None).plain() | {"version": 2}
    plain["config"]["optimizer"].pop("fused", None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def check_config(result: str, experiment: Experiment) -> None:
    """Make sure that a result that is there is of a run's settings.

    Raises:
        ParityError: it is of others.
    """
    if store.read(result)["config"] != config_hash(experiment):
        name = experiment.experiment_name
        raise ParityError(f"{result}.json is of another config than {name} has now: delete it, and train it again.")


def evaluated(experiment: Experiment) -> store.Row:
    """Evaluate a run's best checkpoint on test data, and count what its parity models cost."""
    datamodule = experiment.get_datamodule(batch_size=experiment.larger_batches)
    model = experiment.load_trained_model()
    assert isinstance(model, CodedModel)
    loader = datamodule.loader("test")
    query = next(loader.every_query(1))[1]
    costs = parity_model_costs(model, query)
    evaluation = evaluate_code(model, loader, datamodule.task, datamodule.default_prediction())
    missing = [count for count in range(1, model.k + 1) if evaluation.can_miss(count)]
    return {
        "experiment": experiment.experiment_name,
        "dataset": experiment.dataset,
        "k": model.k,
        "r": model.r,
        "A_a": evaluation.a_a,
        "missing": {str(count): evaluation.missing(count) for count in missing},
        "reconstruction": {str(count): evaluation.missing(count, "reconstruction") for count in missing},
        "multiply_adds": costs.multiply_adds,
        "parameters": costs.parameters,
    }


def main(args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, then print the tables."""
    if args.time:
        timing(args)
        return
    for key in args.table:
        for name in TABLES[key].names:
            for seed in args.seeds:
                run(TABLES[key], name, seed, args)
    for key in args.table:
        made = tables.ablation if key == "ablation" else tables.codes(TABLES[key].dataset)
        print(f"\n{TABLES[key].title}:\n\n{made()}")


class Clock(pl.Callback):
    """Takes the time of epochs, with their validation and saving."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.starts.append(time.perf_counter())

    def on_fit_end(self, *_: object) -> None:
        self.starts.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of an epoch, the first left out."""
        return statistics.median(end - start for start, end in itertools.pairwise(self.starts[1:]))


def epoch_seconds(name: str, overrides: dict[str, Any], args: argparse.Namespace) -> float:
    """Train a few epochs of an experiment on MNIST."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        overrides = {**overrides, "trainer.max_epochs": EPOCHS}
        experiment = Experiment("MNIST", name, overrides=overrides, base_directory=folder)
        run_training(experiment, RunOptions(hardware=Hardware(args.accelerator), callbacks=[clock]), args.weights)
    return clock.seconds


def original_at(k: int) -> dict[str, Any]:
    """Return what makes ``mlp_k4_add`` the original recipe at another k."""
    return {"code.k": k, "data.batch_size": 64 if k == 2 else 32}


def timing(args: argparse.Namespace) -> None:
    """Train epochs of the original recipe and of the positional codes in turns; keep what whole runs would take."""
    rows = []
    for name in TABLES["mnist"].names[: len(CODES)]:
        config = Experiment("MNIST", name).config
        pairs = [
            (epoch_seconds(name, {}, args), epoch_seconds("mlp_k4_add", original_at(config["code"]["k"]), args))
            for _ in range(args.rounds)
        ]
        own, original = (statistics.median(times) for times in zip(*pairs, strict=True))
        share = own * config["trainer"]["max_epochs"] / (original * 500)
        row = {"dataset": "MNIST", "code": name, "epoch": own, "original_epoch": original}
        rows.append({**row, "original_run": round(original * 500), "share": share})
    store.write("better_codes_time", "Epochs of the positional codes and of the original recipe on MNIST", rows)
    print(tables.TABLES["better_codes_time"]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES), help="train nothing else")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--time", action="store_true", help="only measure the times of epochs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mnist-base-mlp.t7"))
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "better_codes_runs", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
