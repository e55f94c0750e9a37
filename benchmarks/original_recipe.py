"""Does our training reproduce the original's accuracies? Published MNIST base model, k = 2, 3, 4, three seeds each.

    python benchmarks/original_recipe.py [--weights ../shared/weights/mnist-base-mlp.t7] [--epochs 40]

About 7 minutes on 2 cores. Every run resumes where it stopped: the same command again fills the
gaps. Test accuracy is recorded after every epoch for this table; nothing is chosen by it.
"""

import argparse
import statistics
from pathlib import Path

import store
import tables

from parity.command_line import run_command
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.training import Hardware

EPOCHS = {2: (1, 3, 40), 3: (40,), 4: (40,)}
"""After which epochs, by k, the original's own A_d is known (results/reference/original_recipe.json)."""


def main(args: argparse.Namespace) -> None:
    """Train what is missing, then print and keep the table."""
    rows = []
    for k, epochs in EPOCHS.items():
        runs = []
        for seed in args.seeds:
            experiment = Experiment(
                "MNIST", f"mlp_k{k}_add", seed=seed, base_directory=args.runs,
                overrides={"trainer.max_epochs": args.epochs},
            )  # fmt: skip
            options = RunOptions(hardware=Hardware(args.accelerator), test_every_epoch=True)
            run_training(experiment, options, args.weights)
            runs.append([row["test/overall_top1"] for row in experiment.load_metrics()])
        for epoch in (epoch for epoch in epochs if epoch <= args.epochs):
            values = [run[epoch - 1] for run in runs]
            mean, sd = statistics.mean(values), statistics.pstdev(values)
            row = {"dataset": "MNIST", "experiment": f"mlp_k{k}_add", "k": k, "epochs": epoch}
            rows.append({**row, "mean": mean, "sd": sd, "low": min(values), "high": max(values)})
    about = "A_d of the original recipe (addition) on MNIST test data, published base model"
    store.write("original_recipe", about, rows, seeds=args.seeds)
    print(tables.original_recipe())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights/mnist-base-mlp.t7"))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--runs", type=Path, default=store.RESULTS / "original_recipe", help="where the runs lie")
    raise SystemExit(run_command(main, parser.parse_args()))
