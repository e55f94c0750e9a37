"""What do the codes reach on real data other than MNIST? CIFAR-10 (JPEG), spoken digits, photographs, boxes; k = 2.

    python benchmarks/real_data.py [--only CIFAR10 FSDD]

Trains base and parity models on the CPU by the configs' own budgets; a finished part is not done again and a cut-off
one is resumed, so the same command again fills the gaps. Its data: ../shared/prepare_data.sh data. The table shows test
data, looked at once for each run, beside the floor: always saying the most frequent class or, for boxes, the mean box
of the training data.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import store
import tables

from parity.command_line import run_command
from parity.experiments import Experiment
from parity.runs.evaluation import run_evaluation
from parity.runs.training import RunOptions, run_training
from parity.storage.files import write_json
from parity.training import Hardware

# Data set, what to call it, and its experiments at k = 2.
RUNS = [
    ("CIFAR10", "CIFAR-10 (JPEG)", ["small_resnet_k2_add", "small_resnet_k2_concat"]),
    ("FSDD", "spoken digits (FSDD)", ["lenet_k2_add"]),
    ("DigitBoxes", "boxes of MNIST digits", ["convnet_k2_add", "convnet_k2_concat"]),
    ("CatVsDog", "Cat v. Dog, 64 px", ["small_resnet_k2_add", "small_resnet_k2_concat"]),
]


def measured(dataset: str, name: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """Return an experiment's evaluation on test data; train and evaluate it if that is asked for and not done."""
    experiment = Experiment(dataset, name, base_directory=args.runs)
    file = experiment.save_dir / "evaluation.json"
    if not file.exists():
        if args.only and dataset not in args.only:
            return None
        run_training(experiment, RunOptions(hardware=Hardware(args.accelerator)))
        write_json(file, run_evaluation(experiment, accelerator=args.accelerator))
    return json.loads(file.read_text())


def row(dataset: str, what: str, name: str, results: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the table."""
    code = results["code"]
    measure, rebuilt = code["measures"][0], code["A_d"]["1"]
    return {
        "dataset": dataset,
        "data": what,
        "experiment": name,
        "measure": {"top1": "accuracy", "iou": "mean IoU"}[measure],
        "floor": code["floor"],
        "A_a": code["A_a"],
        "A_d": rebuilt[f"overall_{measure}"],
        "reconstruction": rebuilt[f"reconstruction_{measure}"],
    }


def main(args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, then keep and print what there is."""
    rows = []
    for dataset, what, names in RUNS:
        for name in names:
            results = measured(dataset, name, args)
            if results is not None:
                rows.append(row(dataset, what, name, results))
    store.write("real_data", "Codes at k = 2 on other real data, test split, CPU budgets, one seed", rows, seeds=[0])
    print(tables.TABLES["real_data"]())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="DATASET", help="train nothing else; what is finished is shown")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "real_data", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
