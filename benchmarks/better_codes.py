"""How much do positional codes lose? Beside the original recipe, three seeds each; and the recipe's ablation.

    python benchmarks/better_codes.py [--table mnist ablation digits cifar10 fsdd] [--seeds 0 1 2] [--show]

The base model is the published one on MNIST, elsewhere the data set's own, trained by its plain recipe first. Beyond
MNIST, original and positional codes are trained for the same number of epochs. Test data is looked at once a run.
A run that was cut off goes on, and each finished one is a file under ``results/better_codes``: the same command again
fills the gaps, ``--show`` only makes the tables.

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

from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.errors import ParityError
from parity.evaluation import evaluate_code
from parity.evaluation.costs import parity_model_costs
from parity.experiments import Experiment
from parity.experiments.MNIST.ablation.experiment_parameters import ABOUT
from parity.runs.training import RunOptions, run_training
from parity.storage.files import write_json, write_text
from parity.training import Hardware

COST = 1.10
"""Most that a parity model may need of the base model's multiply-adds and parameters."""

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


def run(table: Table, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return a run's result; train and evaluate it where that is asked for and not done."""
    experiment = Experiment(
        table.dataset, name, seed=seed, overrides=table.overrides, base_directory=args.results / "better_codes_runs"
    )
    config = hashlib.sha256(json.dumps(experiment.identity(None), sort_keys=True).encode()).hexdigest()[:16]
    file = args.results / "better_codes" / f"{table.dataset}-{name}-seed{seed}.json"
    if not file.exists():
        if args.show:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        options = RunOptions(hardware=Hardware(args.accelerator), refresh_rate=1000)
        began = time.monotonic()
        run_training(experiment, options, args.weights if table.published_base else None)
        seconds = time.monotonic() - began
        write_json(file, evaluated(experiment, args) | {"seconds": seconds, "config": config})
    result: dict[str, Any] = json.loads(file.read_text())
    if result["config"] != config:
        raise ParityError(f"{file} is of another config than {name} has now: delete it, and train it anew.")
    return result


def evaluated(experiment: Experiment, args: argparse.Namespace) -> dict[str, Any]:
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
        "seed": experiment.seed,
        "k": model.k,
        "r": model.r,
        "A_a": evaluation.a_a,
        "missing": {str(count): evaluation.missing(count) for count in missing},
        "reconstruction": {str(count): evaluation.missing(count, "reconstruction") for count in missing},
        "multiply_adds": costs.multiply_adds,
        "parameters": costs.parameters,
    }


def spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation, of the sample; of a single value that alone."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def rows(table: Table, args: argparse.Namespace) -> list[str]:
    """Return a table's lines, a code each, of the runs that are finished."""
    lines = []
    for name in table.names:
        found = [result for seed in args.seeds if (result := run(table, name, seed, args)) is not None]
        if not found:
            continue
        first = found[0]
        counts = {"1": "1", "2": "2" if first["r"] > 1 else "", "all": str(first["k"])}
        cells = {
            label: spread([result["missing"][count] for result in found]) if count in first["missing"] else "–"
            for label, count in counts.items()
        }
        reconstruction = spread([result["reconstruction"]["1"] for result in found])
        most = max(first["multiply_adds"], first["parameters"])
        cost = f"{first['multiply_adds']:.2f} / {first['parameters']:.2f}{' OVER' if most > COST else ''}"
        lines.append(
            f"| `{name}` | {spread(list({result['A_a'] for result in found}))} | {cells['1']} | {cells['2']} | "
            f"{cells['all']} | {reconstruction} | {cost} | {len(found)} |"
        )
    return lines


def ablation_rows(table: Table, args: argparse.Namespace) -> list[str]:
    """Return the ablation's lines, an entry each."""
    lines = []
    for name in table.names:
        found = [result for seed in args.seeds if (result := run(table, name, seed, args)) is not None]
        if found:
            values = [result["missing"]["1"] for result in found]
            lines.append(f"| `{name}` | {ABOUT[name]} | {spread(values)} | {len(found)} |")
    return lines


HEADS = {
    "rest": "| code | A_a | A_d, 1 missing | 2 missing | all k missing, parity answers alone | reconstruction | "
    "parity model's multiply-adds / parameters, of the base model's | seeds |",
    "ablation": "| experiment | what | A_d | seeds |",
}


def main(args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, then print and keep the tables."""
    if args.time:
        timing(args)
        return
    for key in args.table:
        (ablation_rows if key == "ablation" else rows)(TABLES[key], args)
    args.show, parts = True, []
    for key, table in TABLES.items():
        lines = (ablation_rows if key == "ablation" else rows)(table, args)
        if lines:
            head = HEADS["ablation" if key == "ablation" else "rest"]
            parts += ["", f"{table.title}:", "", head, "| --- " * (head.count("|") - 1) + "|", *lines]
    text = "\n".join(parts[1:])
    print(text)
    write_text(args.results / "better_codes.md", text + "\n")


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
    head = "| code | epoch | the original's at this k | its 500 epochs | whole run, of the original's 500 epochs |"
    lines = [head, "| --- " * 5 + "|"]
    for name in TABLES["mnist"].names[: len(CODES)]:
        config = Experiment("MNIST", name).config
        pairs = [
            (epoch_seconds(name, {}, args), epoch_seconds("mlp_k4_add", original_at(config["code"]["k"]), args))
            for _ in range(args.rounds)
        ]
        own, original = (statistics.median(times) for times in zip(*pairs, strict=True))
        share = own * config["trainer"]["max_epochs"] / (original * 500)
        lines.append(f"| `{name}` | {own:.2f} s | {original:.2f} s | {original * 500:.0f} s | {share:.2f} |")
    text = "\n".join(lines)
    print(text)
    write_text(args.results / "better_codes_time.md", text + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", choices=TABLES, default=list(TABLES), help="train nothing else")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--show", action="store_true", help="train nothing: make the tables of what is finished")
    parser.add_argument("--time", action="store_true", help="only measure the times of epochs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mnist-base-mlp.t7"))
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    raise SystemExit(run_command(main, parser.parse_args()))
