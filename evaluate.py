#!/usr/bin/env python
"""Evaluate what was trained, or compare codes on the base model that they share.

python evaluate.py --dataset MNIST --experiment_name mlp_k2_add
python evaluate.py --dataset MNIST --compare 'mlp_k*_add' mlp_k2_concat --baselines --report comparison
"""

import argparse
from pathlib import Path
from typing import Any

from parity.command_line import add_experiment_arguments, run_command
from parity.errors import ParityError


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    parser.add_argument("--experiment_name", metavar="NAME", help="name of the experiment to evaluate")
    parser.add_argument(
        "--reload", default="best", metavar="NAME", help="checkpoint: best, last or epoch_<N> (default: %(default)s)"
    )
    parser.add_argument("--ema", action="store_true", help="evaluate the averaged weights of that checkpoint")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="evaluate these weights instead of the run's")
    parser.add_argument(
        "--split", choices=("test", "val"), default="test", help="split to evaluate (default: %(default)s)"
    )
    parser.add_argument(
        "--batch_size", type=int, metavar="N", help="number of coding groups in a batch (default: 4 times the config's)"
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file too")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

    comparison = parser.add_argument_group("comparison")
    comparison.add_argument(
        "--compare", nargs="+", metavar="NAME",
        help="compare these trained experiments, names or globs; a base model with --baselines alone",
    )  # fmt: skip
    comparison.add_argument(
        "--report", type=Path, metavar="DIR", help="write tables, figures and a page to this folder"
    )
    comparison.add_argument(
        "--baselines", action="store_true",
        help="add the codes without training: replication, ApproxIFER, NeRCC, no redundancy",
    )  # fmt: skip
    comparison.add_argument("--backup", metavar="NAME", help="add a smaller trained network as a backup of each query")
    comparison.add_argument(
        "--k", type=int, nargs="+", metavar="K", help="group sizes of the baselines (default: the experiments')"
    )
    comparison.add_argument(
        "--unavailable", type=float, nargs="+", metavar="F",
        help="probabilities f of A_o(f) (default: 0 0.01 0.05 0.1 0.2)",
    )  # fmt: skip
    comparison.add_argument(
        "--paired", action="store_true", help="let workers fail in pairs: outputs 2i and 2i + 1 together"
    )
    comparison.add_argument(
        "--default_class", type=int, metavar="C", help="class to predict where nothing can be rebuilt"
    )
    comparison.add_argument(
        "--wandb_logger", action="store_true", help="log the report to Weights & Biases; needs --wandb_project"
    )
    comparison.add_argument("--wandb_project", metavar="NAME", help="W&B project")
    return parser


def main(args: argparse.Namespace) -> None:
    """Evaluate or compare, print, and write if asked."""
    from parity.experiments import catalogue

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if not args.dataset:
        raise ParityError("name a --dataset, e.g. --dataset MNIST.")
    if bool(args.experiment_name) == bool(args.compare):
        raise ParityError("name one --experiment_name to evaluate, or several to --compare.")
    if args.compare:
        compare(args)
    else:
        evaluate(args)


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate one experiment."""
    from parity.evaluation.tables import show
    from parity.runs.evaluation import run_evaluation
    from parity.runs.naming import named_run
    from parity.storage.files import write_json

    experiment = named_run(args, args.experiment_name)
    if args.json and (args.json.is_dir() or not args.json.resolve().parent.is_dir()):
        raise ParityError(f"--json {args.json}: that is a folder, or its folder does not exist.")
    results: dict[str, Any] = run_evaluation(
        experiment,
        reload=args.reload,
        ema=args.ema,
        weights=args.weights,
        split=args.split,
        batch_size=args.batch_size,
        accelerator=args.accelerator,
    )
    show(results)
    if args.weights is None:
        write_json(experiment.save_dir / f"evaluation_{args.split}_{args.reload}{'_ema' * args.ema}.json", results)
    if args.json:
        write_json(args.json, results)


def compare(args: argparse.Namespace) -> None:
    """Compare several experiments."""
    from parity.evaluation.report.report import write_report
    from parity.evaluation.report.wandb_report import log_report
    from parity.evaluation.tables import show_comparison
    from parity.experiments import catalogue
    from parity.runs.comparison import UNAVAILABLE, run_comparison
    from parity.runs.naming import named_run
    from parity.storage.files import check_writable
    from parity.wandb_server import check_wandb_project

    if args.wandb_logger:
        check_wandb_project(args.wandb_project)
        if args.report is None:
            raise ParityError("--wandb_logger uploads the report: name its folder with --report DIR.")
    if args.report:
        check_writable(args.report)
    names = catalogue.matching(args.dataset, args.compare, args.collection)
    experiments = [named_run(args, name) for name in names]
    trained = [experiment for experiment in experiments if experiment.available_checkpoints()]
    for experiment in experiments:
        if experiment not in trained and experiment.experiment_name in args.compare:
            experiment.checkpoint(args.reload)  # raises: it was named, and is not trained
    results = run_comparison(
        trained,
        baselines=args.baselines,
        backup=named_run(args, args.backup) if args.backup else None,
        ks=args.k,
        unavailable=args.unavailable or UNAVAILABLE,
        paired=args.paired,
        default_class=args.default_class,
        split=args.split,
        reload=args.reload,
        ema=args.ema,
        accelerator=args.accelerator,
    )
    show_comparison(results)
    if args.report:
        files = write_report(results, args.report)
        print(f"written to {args.report}: open {args.report / 'report.html'}")
        if args.wandb_logger:
            log_report(files, args.wandb_project, f"{args.dataset} {args.split}")


if __name__ == "__main__":
    arguments = get_parser().parse_args()
    raise SystemExit(run_command(main, arguments))
