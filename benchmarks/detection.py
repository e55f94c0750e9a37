"""Are wrong outputs noticed? Faults in one worker's outputs, for codes on MNIST; thresholds from validation data.

    python benchmarks/detection.py --runs RUNS --base_weights FILE

RUNS holds the trained runs of ``mlp_k{2,4}_cells_kl`` and ``mlp_k{2,4}_add``; those that are missing are trained first
(minutes each). Writes benchmarks/results/detection.json, from which
``benchmarks/tables.py`` makes the table of docs/detection.md. A minute on 2 cores once all are trained.
"""

import argparse
from pathlib import Path
from typing import Any

import store

from parity.command_line import run_command
from parity.evaluation.detection import FAULTS, calibrated, detection, outputs_of
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

CODES = ("cells_kl", "add")
FALSE_ALARMS = (0.001, 0.01)


def measured(args: argparse.Namespace, k: int, code: str) -> list[dict[str, Any]]:
    """Return a row for each fault and rate of false alarms."""
    experiment = Experiment("MNIST", f"mlp_k{k}_{code}", base_directory=args.runs)
    if not (experiment.save_dir / "test_metrics.json").exists():
        run_training(experiment, RunOptions(hardware=Hardware("cpu")), args.base_weights)
    model, datamodule = experiment.load_trained_model(), experiment.get_datamodule()
    outputs = outputs_of(model, datamodule.loader("test"))
    rows = []
    for allowed in FALSE_ALARMS:
        detector = calibrated(model, datamodule.loader("val"), datamodule.task, allowed)
        for name, fault in FAULTS.items():
            found = detection(model, detector, outputs, datamodule.task, fault)
            rows.append({"code": code, "k": k, "r": model.r, "allowed": allowed, "fault": name, **found})
    return rows


def main(args: argparse.Namespace) -> None:
    """Measure and write."""
    rows = [row for k in args.k for code in args.codes for row in measured(args, k, code)]
    store.write(
        "detection",
        "Wrong outputs of one worker on MNIST, published base model: noticed, found, and what users get",
        rows,
    )
    for row in rows:
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--codes", nargs="+", default=CODES)
    parser.add_argument("--runs", type=Path, default=Path("experiments"), help="folder of the runs")
    parser.add_argument("--base_weights", type=Path, help="file of the published base model's weights")
    raise SystemExit(run_command(main, parser.parse_args()))
