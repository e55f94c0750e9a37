#!/usr/bin/env python
"""Evaluate a trained experiment: python evaluate.py --dataset MNIST --experiment_name mlp_k2_add"""

import argparse
from pathlib import Path
from typing import Any

from parity.experiments.utils.command_line import add_experiment_arguments, parse_overrides, run_command


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", required=True, metavar="NAME")
    parser.add_argument("--reload", default="best", help="best, last or epoch_<N> (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="evaluate these weights instead of the run's")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, help="coding groups in a batch (default: the config's)")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, ... (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers here")
    return parser


def main(args: argparse.Namespace) -> None:
    """Evaluate, print, and write if asked."""
    from parity.errors import ParityError
    from parity.evaluation.tables import show
    from parity.experiments import Experiment
    from parity.experiments.utils import catalogue
    from parity.experiments.utils.experiment import CONFIG_FILE
    from parity.experiments.utils.run_evaluation import run_evaluation
    from parity.training.files import write_json

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if not args.dataset:
        raise ParityError("name a --dataset, e.g. --dataset MNIST.")
    experiment = Experiment(
        args.dataset, args.experiment_name, collection=args.collection, base_directory=args.base_directory,
        run_name=args.run_name, seed=args.seed, overrides=parse_overrides(args.overrides),
    )  # fmt: skip
    if (experiment.save_dir / CONFIG_FILE).exists():  # then with the overrides that the run was started with
        run = Experiment(experiment.save_dir, overrides=parse_overrides(args.overrides))
        if run.experiment_name != experiment.experiment_name or args.seed not in (None, run.seed):
            raise ParityError(f"{run.save_dir} is a run of {run.experiment_name} with seed {run.seed}.")
        experiment = run
    if args.json and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        raise ParityError(f"--json {args.json}: that is a folder, or lies in none.")
    results: dict[str, Any] = run_evaluation(
        experiment,
        reload=args.reload,
        weights=args.weights,
        split=args.split,
        batch_size=args.batch_size,
        accelerator=args.accelerator,
    )
    show(results)
    if args.json:
        write_json(args.json, results)


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    raise SystemExit(run_command(main, arguments))
