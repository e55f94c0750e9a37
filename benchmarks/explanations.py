"""How much evidence lies in the right cell of a grid, and, of codes, on the query that is rebuilt?

    python benchmarks/explanations.py [--dataset Digits] [--runs DIR] [--epochs 20]

Trains the collection ``bcos`` of a data set for so many epochs where it is not trained, seed 0, and runs the
localisation analysis of its base models and codes.
"""

import argparse
from pathlib import Path
from typing import Any

import store

from parity.analyses.localisation import analyse
from parity.experiments import Experiment
from parity.runs.training import run_training

BASES = {
    "Digits": {
        "bcos_base": ("Ours", "GradCAM", "IntegratedGradients"),
        "resnet_base": ("GradCAM", "IntegratedGradients", "InputXGradient", "Saliency"),
    }
}
"""Explainers, by data set and base model."""

CODES = {"Digits": {f"bcos_k{k}_{code}": "Ours" for k in (2, 4) for code in ("add", "concat", "cells")}}
"""The explainer of each code's parity models, by data set and experiment."""

GRIDS = {"Digits": {"3x3": "35_3x3"}}
GROUPS = {"Digits": {2: "150_code", 4: "80_code"}}


def trained(dataset: str, name: str, runs: Path, epochs: int) -> tuple[Experiment, dict[str, float]]:
    """Return a run and its test metrics, trained now if it is not."""
    experiment = Experiment(dataset, name, base_directory=runs, overrides={"trainer.max_epochs": epochs})
    if not experiment.available_checkpoints():
        run_training(experiment)
    return experiment, experiment.load_test_metrics()


def of_bases(dataset: str, runs: Path, epochs: int) -> list[dict[str, Any]]:
    """Return a row for each base model, explainer and grid."""
    rows = []
    for name, explainers in BASES[dataset].items():
        experiment, metrics = trained(dataset, name, runs, epochs)
        for grid, config in GRIDS[dataset].items():
            rows += [
                {
                    "dataset": dataset, "network": name.removesuffix("_base"), "epochs": epochs,
                    "A_a": metrics["test/top1"], "grid": grid, "grids": result["identity"]["grids"],
                    "explainer": result["explainer"], **result["score"], "chance": result["chance"],
                }
                for result in analyse(experiment, config, explainers)
            ]  # fmt: skip
    return rows


def of_codes(dataset: str, runs: Path, epochs: int) -> list[dict[str, Any]]:
    """Return a row for each code: shares with the predictions that arrived held, and through the base model."""
    rows = []
    for name, explainer in CODES[dataset].items():
        experiment, metrics = trained(dataset, name, runs, epochs)
        network, of_k, code = name.split("_")
        k = int(of_k[1:])
        [held], [through] = (
            analyse(experiment, GROUPS[dataset][k], [explainer], through_base_model=through)
            for through in (False, True)
        )
        rows.append({
            "dataset": dataset, "network": network, "code": code, "k": k, "epochs": epochs,
            "A_d": metrics["test/overall_top1"], "explainer": explainer, "groups": held["identity"]["grids"],
            **held["score"], **{f"through_{end}": value for end, value in through["score"].items()},
            "chance": held["chance"],
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=BASES, default="Digits", help="data set (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("experiments"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="number of epochs (default: %(default)s)")
    args = parser.parse_args()
    given = (args.dataset, args.runs, args.epochs)
    codes, bases = of_codes(*given), of_bases(*given)
    store.write("explanations/codes", "positive attribution on the query that is rebuilt", codes, seeds=(0,))
    store.write("explanations/localisation", "positive attribution in the right cell", bases, seeds=(0,))


if __name__ == "__main__":
    main()
