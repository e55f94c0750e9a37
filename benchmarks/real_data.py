"""What do the codes reach on real data other than MNIST? CIFAR-10 (JPEG), spoken digits, photographs, boxes; k = 2.

    python benchmarks/real_data.py [--only CIFAR10 FSDD]

Trains base and parity models on the CPU by the configs' own budgets; a finished part is not done again and a cut-off
one goes on, so the same command again fills the gaps. Its data: ../shared/prepare_data.sh data. The table shows test
data, looked at once for each run, beside the floor: always saying the most frequent class or, for boxes, the mean box
of the training data.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from parity.command_line import run_command
from parity.experiments import Experiment
from parity.runs.evaluation import run_evaluation
from parity.runs.training import RunOptions, run_training
from parity.storage.files import write_json, write_text
from parity.training import Hardware

# Data set, what to call it, and its experiments at k = 2.
RUNS = [
    ("CIFAR10", "CIFAR-10 (JPEG)", ["small_resnet_k2_add", "small_resnet_k2_concat"]),
    ("FSDD", "spoken digits (FSDD)", ["lenet_k2_add"]),
    ("DigitBoxes", "boxes of MNIST digits", ["convnet_k2_add", "convnet_k2_concat"]),
    ("CatVsDog", "Cat v. Dog, 64 px", ["small_resnet_k2_add", "small_resnet_k2_concat"]),
]
HEADER = "| data | experiment | measure | floor | base model | A_d | reconstruction |"


def measured(dataset: str, name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return an experiment's evaluation on test data; train and evaluate it if that is asked for and not done."""
    experiment = Experiment(dataset, name, base_directory=args.results / "real_data")
    file = experiment.save_dir / "evaluation.json"
    if not file.exists():
        if args.only and dataset not in args.only:
            return None
        run_training(experiment, RunOptions(hardware=Hardware(args.accelerator)))
        write_json(file, run_evaluation(experiment, accelerator=args.accelerator))
    return json.loads(file.read_text())


def row(what: str, name: str, results: dict[str, Any]) -> str:
    """Return a line of the table."""
    code = results["code"]
    measure, rebuilt = code["measures"][0], code["A_d"]["1"]
    values = [code["floor"], code["A_a"], rebuilt[f"overall_{measure}"], rebuilt[f"reconstruction_{measure}"]]
    names = {"top1": "accuracy", "iou": "mean IoU"}
    return f"| {what} | `{name}` | {names[measure]} | " + " | ".join(f"{value:.4f}" for value in values) + " |"


def main(args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, then print and keep the table."""
    rows = []
    for dataset, what, names in RUNS:
        for name in names:
            results = measured(dataset, name, args)
            if results is not None:
                rows.append(row(what, name, results))
    table = "\n".join([HEADER, "| --- " * 7 + "|", *rows])
    print(table)
    write_text(args.results / "real_data.md", table + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="DATASET", help="train nothing else; what is finished is shown")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    raise SystemExit(run_command(main, parser.parse_args()))
