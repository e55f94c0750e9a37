"""What else could the same extra worker run? Every code beside packed students and superposition, at equal cost.

    python benchmarks/compare_all.py                              what is missing, most informative first
    python benchmarks/compare_all.py --dataset Digits --seeds 0
    python benchmarks/compare_all.py --list                       what is there, what is not, and how long it would take

Each (data, code, seed) is trained and compared on test data, and is a file under ``results/equal_cost``: costs of a
group, accuracies with paired intervals, likelihoods. A run that was cut off is resumed, and the same command again
fills the gaps. Addition, ``cells_kl``, ``packed_kl`` from both starts, MIMO and RevMUX come first, then the rest, then
further seeds. The base model is the published one on MNIST, elsewhere one that has the parity models' epochs and
augmentation. All of it takes a day of one core, Digits half an hour; ResNet-18 is left out without ``--accelerator
cuda``: see ``resnet18.sh``. ``benchmarks/tables.py`` makes the tables of docs/equal_cost.md, ``pareto.py`` pictures.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pareto
import store
import tables
from better_codes import check_config, config_hash

from parity.coded_model import CodedModel
from parity.command_line import run_command
from parity.evaluation.comparison import Candidate, compare
from parity.experiments import Experiment, catalogue
from parity.models.layout import lay_out
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware
from parity.training.loop.hardware import make_trainer

_log = logging.getLogger("parity")

OVERRIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("Digits", "mlp"): {"base": "mlp_augmented_base"},
    ("CIFAR10", "small_resnet"): {"trainer.precision": "bf16-mixed"},
    ("FSDD", "lenet"): {"base": "lenet_augmented_base"},
}
"""Base models have parity models' epochs and augmentation, in full precision, but for the published one on MNIST."""
ON_LABELS = {"packed", "cells"}
"""Codes that may be right where a base model without their augmentation is wrong: not run beside the published one."""
ON_A_GPU = {("CIFAR10", "resnet18_gpu")}
"""What would take days on a CPU."""
FIRST = ("cells_kl", "cells_long_kl", "packed_kl", "packed_pruned_kl", "add", "add_augmented", "mimo_kl", "revmux_kl")
REST = ("packed_coarse_kl", "packed_deep_kl", "datamux_kl", "mimonet_kl", "packed", "cells", "concat")
KS = (2, 4, 8)
SMALL_KS = (2, 4)
"""Measured first, and with further seeds."""
_FIGURES = (
    "k", "r", "n", "groups", "queries_left_over", "A_a", "loss", "A_d", "reconstruction", "A_o", "mse", "extra_workers",
    "extra_parameters", "multiply_adds", "extra_multiply_adds", "coding", "extra_bytes_up", "extra_bytes_down",
    "calibration", "likelihood",
)  # fmt: skip
"""What is kept of a comparison."""


@dataclass(frozen=True)
class Run:
    """A code on a data set, of one seed."""

    dataset: str
    network: str
    code: str
    k: int
    seed: int

    @property
    def pair(self) -> tuple[str, str]:
        """The data set and the network."""
        return self.dataset, self.network

    @property
    def name(self) -> str:
        """Of the experiment."""
        return f"{self.network}_k{self.k}_{self.code}"

    @property
    def result(self) -> str:
        """Name of its results."""
        return f"equal_cost/{self.dataset}-{self.name}-seed{self.seed}"


def runs(args: argparse.Namespace) -> Iterator[Run]:
    """Yield all runs, those first that tell most: one seed of everything that matters, then its other seeds."""
    there = {dataset: {entry.name for entry in catalogue.experiments(dataset)} for dataset in args.dataset}
    small, large = [k for k in args.k if k in SMALL_KS], [k for k in args.k if k not in SMALL_KS]
    first, further = args.seeds[:1], args.seeds[1:]
    for codes, ks, seeds in (
        (FIRST, small, first), (REST, small, first), (FIRST + REST, large, first), (FIRST, small, further),
    ):  # fmt: skip
        for seed in seeds:
            left_out = ON_A_GPU if args.accelerator == "cpu" else set()
            networks = [pair for pair in pareto.NETWORKS if pair[0] in args.dataset and pair not in left_out]
            found = (Run(*pair, code, k, seed) for pair in networks for k in ks for code in codes)
            yield from (
                run
                for run in found
                if run.name in there[run.dataset]
                and any(fnmatchcase(run.name, pattern) for pattern in args.experiment_name)
                and not (run.dataset == "MNIST" and run.code in ON_LABELS)
            )


def experiment_of(run: Run, args: argparse.Namespace) -> Experiment:
    """Return a run's experiment."""
    overrides = OVERRIDES.get((run.dataset, run.network), {})
    return Experiment(run.dataset, run.name, seed=run.seed, overrides=overrides, base_directory=args.runs)


def start_of(experiment: Experiment) -> str | None:
    """Return what parity models start from, the name of the config's ``parity_start``; None: from scratch."""
    start = experiment.config.get("parity_start")
    return None if start is None else type(start).__name__


def measure(run: Run, args: argparse.Namespace) -> None:
    """Train a run, where that is not done, and compare it with its base model on test data."""
    experiment = experiment_of(run, args)
    had_begun, began = experiment.save_dir.exists(), time.monotonic()
    weights = args.weights if run.dataset == "MNIST" else None
    run_training(experiment, RunOptions(hardware=Hardware(args.accelerator), refresh_rate=1000), weights)
    seconds = None if had_begun else time.monotonic() - began
    datamodule, model = experiment.get_datamodule(batch_size=experiment.larger_batches), experiment.load_trained_model()
    assert isinstance(model, CodedModel)
    trainer = make_trainer(Hardware(args.accelerator), logger=False, enable_checkpointing=False)
    datamodule.device = trainer.strategy.root_device
    lay_out(model.to(datamodule.device), datamodule.device)
    candidate = Candidate(run.name, "", True, model)
    loader, default = datamodule.loader("test"), datamodule.default_prediction()
    (found,) = compare(
        [candidate], lambda _: loader, datamodule.task, default, (0.01, 0.05, 0.1), classes=datamodule.class_names
    )
    figures = {key: found[key] for key in _FIGURES}
    named = {"dataset": run.dataset, "network": run.network, "experiment": run.name, "code": run.code}
    row = {**named, "start": start_of(experiment), "seconds": seconds, **figures}
    store.write(
        run.result, f"{run.dataset} {run.name} at equal cost, on test data", [row],
        config=config_hash(experiment), seeds=[run.seed],
    )  # fmt: skip


def time_left(missing: Sequence[Run], spent: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """Return how long runs would take, by the median of what those of a network have taken, in seconds."""
    known = sum(statistics.median(spent[run.pair]) for run in missing if run.pair in spent)
    never = sorted({" ".join(run.pair) for run in missing if run.pair not in spent})
    parts = [f"about {known / 60:.0f} min left"] if known else []
    return " and ".join([*parts, *(f"{dataset} not timed yet" for dataset in never)]) or "nothing left"


def main(args: argparse.Namespace) -> None:
    """Measure what is missing, or list it."""
    _log.setLevel(logging.INFO)
    there = set(store.names("equal_cost"))
    for run in runs(args):
        if run.result in there:
            check_config(run.result, experiment_of(run, args))
    missing = [run for run in runs(args) if run.result not in there]
    spent: dict[tuple[str, str], list[float]] = {}
    for row in (row for name in there for row in store.rows(name)):
        if row["seconds"] is not None:
            spent.setdefault((row["dataset"], row["network"]), []).append(row["seconds"])
    if args.list:
        print(f"{len(there)} results are there; missing, in this order, {time_left(missing, spent)}:")
        print("\n".join(run.result for run in missing))
        return
    for number, run in enumerate(missing, start=1):
        left = time_left(missing[number - 1 :], spent)
        print(f"{number}/{len(missing)} {run.dataset} {run.name}, seed {run.seed}, {left}", flush=True)
        began = time.monotonic()
        measure(run, args)
        spent.setdefault(run.pair, []).append(time.monotonic() - began)
    for dataset, network in (pair for pair in pareto.NETWORKS if pair[0] in args.dataset):
        print(f"\n{dataset}, {network}:\n\n{tables.equal_cost(dataset, network)()}")
        pareto.draw(dataset, network)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", choices=(datasets := list(dict(pareto.NETWORKS))), default=datasets)
    parser.add_argument("--experiment_name", nargs="+", metavar="NAME", default=["*"], help="names or globs")
    parser.add_argument("--k", type=int, nargs="+", default=list(KS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--list", action="store_true", help="measure nothing")
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mnist-base-mlp.t7"))
    parser.add_argument("--accelerator", default="cpu", help="as Lightning names it: cpu, cuda")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "equal_cost_runs", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
