"""How much evidence lies in the right cell of a grid, and, of codes, on the query that is rebuilt?

    python benchmarks/explanations.py                       what is missing
    python benchmarks/explanations.py --dataset Digits --runs DIR

Trains the collection ``bcos`` of a data set, B-cos networks and the same with ordinary layers, seed 0, where it is not
trained, and runs the localisation analysis of its base models and codes. Each run is a file under
``results/explanations``: the same command again fills the gaps, and resumes what was cut off. Digits take half an hour
of one core, CIFAR-10 three hours.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import store
from better_codes import check_config, config_hash

from parity.analyses.localisation import analyse
from parity.command_line import run_command
from parity.experiments import Experiment, catalogue
from parity.runs.training import run_training

ORDINARY = ("GradCAM", "IntegratedGradients", "InputXGradient", "Saliency", "DeepLIFT")
BASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Digits": {
        "bcos": ("Ours", "GradCAM", "IntegratedGradients", "Occlusion"),
        "resnet": (*ORDINARY, "Occlusion"),
    },
    "CIFAR10": {
        "bcos_resnet_small": ("Ours", "GradCAM"),
        "resnet_small": ORDINARY,
        "resnet_small_crop2": ("GradCAM",),
    },
}
"""Explainers of base models, by data set and network."""

GRIDS = {"Digits": ("20_2x2", "35_3x3"), "CIFAR10": ("100_2x2", "100_3x3")}
"""By data set: on Digits as many as there are test images for."""

GROUPS = {"Digits": {2: 150, 4: 80}, "CIFAR10": {2: 200, 4: 100}}
"""Groups of test queries, by data set and k."""

CODES = ("add", "cells_kl", "concat")
KS = (4, 2)
"""In this order: those of k = 4 take least."""


@dataclass(frozen=True)
class Run:
    """A base model, where ``code`` is None, or a code."""

    dataset: str
    network: str
    code: str | None = None
    k: int = 1

    @property
    def name(self) -> str:
        """Of the experiment."""
        return f"{self.network}_base" if self.code is None else f"{self.network}_k{self.k}_{self.code}"

    @property
    def result(self) -> str:
        """Name of its results."""
        return f"explanations/{'base' if self.code is None else 'code'}-{self.dataset}-{self.name}"


def runs(dataset: str) -> Iterator[Run]:
    """Yield the runs of a data set, base models first."""
    yield from (Run(dataset, network) for network in BASES[dataset])
    codes = (Run(dataset, network, code, k) for k in KS for code in CODES for network in BASES[dataset])
    there = {entry.name for entry in catalogue.experiments(dataset)}
    yield from (run for run in codes if run.name in there)


def of_base(run: Run, experiment: Experiment) -> list[dict[str, Any]]:
    """Return a row for each grid and explainer."""
    accuracy = experiment.load_test_metrics()["test/top1"]
    return [
        {"A_a": accuracy, "grid": config.split("_")[1], **figures(result)}
        for config in GRIDS[run.dataset]
        for result in analyse(experiment, config, BASES[run.dataset][run.network])
    ]


def of_code(run: Run, experiment: Experiment) -> list[dict[str, Any]]:
    """Return a row: shares with the predictions that arrived held, and through the base model."""
    explainer = "Ours" if run.network.startswith("bcos") else "IntegratedGradients"
    config = f"{GROUPS[run.dataset][run.k]}_code"
    [held], [through] = (
        analyse(experiment, config, [explainer], through_base_model=through) for through in (False, True)
    )
    accuracy = experiment.load_test_metrics()["test/overall_top1"]
    through_score = {f"through_{end}": value for end, value in through["score"].items()}
    return [{"code": run.code, "k": run.k, "A_d": accuracy, **figures(held), **through_score}]


def figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an analysis."""
    return {
        "grids": result["identity"]["grids"], "explainer": result["explainer"], **result["score"],
        "chance": result["chance"],
    }  # fmt: skip


def main(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    there = set(store.names("explanations"))
    for run in (run for dataset in args.dataset for run in runs(dataset)):
        experiment = Experiment(run.dataset, run.name, base_directory=args.runs)
        if run.result in there:
            check_config(run.result, experiment)
            continue
        print(run.result, flush=True)
        run_training(experiment)
        named = {
            "dataset": run.dataset, "network": run.network, "experiment": run.name,
            "epochs": experiment.config["trainer"]["max_epochs"],
        }  # fmt: skip
        rows = of_base(run, experiment) if run.code is None else of_code(run, experiment)
        about = "positive attribution in the right cell, or on the query that is rebuilt"
        found = [named | row for row in rows]
        store.write(run.result, about, found, config=config_hash(experiment), seeds=[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", choices=BASES, default=list(BASES), help="data sets (default: all)")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "explanations_runs", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
