"""Evaluate what was trained, or compare codes on the base model that they share.

parity evaluate --dataset MNIST --experiment_name mlp_k2_add
parity evaluate --dataset MNIST --compare 'mlp_k*_add' mlp_k2_concat --baselines --report comparison
"""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.command_line import (
    add_experiment_arguments,
    add_variants_arguments,
    asked_seeds,
    check_needed,
    check_weights_alone,
    is_given,
    parse_overrides,
)
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.experiments import Experiment


log = logging.getLogger("parity.evaluate")


_OF_ONE = {"weights", "batch_size", "wrong", "false_alarms"}
_OF_COMPARISON = {
    "report", "format", "baselines", "backup", "k", "unavailable", "paired", "default_class", "wandb_logger",
    "wandb_project",
}  # fmt: skip
_NEEDED = {"false_alarms": "wrong", "format": "report", "wandb_project": "wandb_logger"}
_FALSE_ALARMS = 0.01


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_experiment_arguments(parser)
    add_variants_arguments(parser)
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
    parser.add_argument(
        "--wrong", type=float, nargs="+", default=[], metavar="G",
        help="also look for wrong outputs: what users get where each is wrong with probability G",
    )  # fmt: skip
    parser.add_argument(
        "--false_alarms", type=float, metavar="SHARE",
        help=f"of groups, in which something may be suspect without a fault (default: {_FALSE_ALARMS})",
    )  # fmt: skip
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file too")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")

    comparison = parser.add_argument_group("comparison")
    comparison.add_argument(
        "--compare", nargs="+", metavar="NAME",
        help="compare these trained experiments, names or globs, or runs, folders or their names; a base model with "
        "--baselines alone",
    )  # fmt: skip
    comparison.add_argument(
        "--report", type=Path, metavar="DIR", help="write tables, figures and a page to this folder"
    )
    comparison.add_argument(
        "--format", nargs="+", default=[], metavar="FORMAT",
        help="further formats of the report: svg and pdf of figures, latex, json and parquet of the table",
    )  # fmt: skip
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
    if args.experiment_name and (args.seeds or args.sweep):
        args.compare = [args.experiment_name]
    _check_used(args)
    if args.compare:
        compare(args)
    else:
        evaluate(args)


def _check_used(args: argparse.Namespace) -> None:
    """Refuse an option that would be ignored.

    Raises:
        ParityError: one is of a comparison, or of a single experiment, and this is the other; or one goes with an
            option that is not given.
    """
    given = {name for name in (*_OF_COMPARISON, *_OF_ONE) if is_given(getattr(args, name))}
    if unused := sorted(given & (_OF_ONE if args.compare else _OF_COMPARISON)):
        remedy = "--experiment_name" if args.compare else f"--compare {args.experiment_name}"
        raise ParityError(f"--{unused[0]} goes with {remedy}, and would be ignored here.")
    check_needed(args, _NEEDED)
    check_weights_alone(args)
    if args.k and not args.baselines and not args.backup:
        raise ParityError("--k is of the codes without training: add --baselines, or leave it out.")


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate one experiment."""
    from parity.evaluation.tables import show
    from parity.runs.evaluation import run_evaluation
    from parity.runs.naming import named_run
    from parity.storage.files import check_output, write_output
    from parity.terminal import print_line

    experiment = named_run(args, args.experiment_name)
    output = check_output(args.json) if args.json else None
    results: dict[str, Any] = run_evaluation(
        experiment,
        reload=args.reload,
        ema=args.ema,
        weights=args.weights,
        split=args.split,
        batch_size=args.batch_size,
        accelerator=args.accelerator,
        wrong=args.wrong,
        false_alarms=_FALSE_ALARMS if args.false_alarms is None else args.false_alarms,
    )
    if output is not None:  # before anything is shown: who reads that may have gone
        write_output(output, results)
    try:
        show(results)
    finally:  # also where who reads that has gone
        picture = None if args.weights is not None else _keep(results, experiment.save_dir, args)
    if picture is not None:
        print_line(f"as a picture: {picture}")


def _keep(results: dict[str, Any], folder: Path, args: argparse.Namespace) -> Path | None:
    """Write an evaluation into its run's folder, and return the picture of it if there is one."""
    from parity.evaluation.unavailability import write_png
    from parity.storage.files import write_json

    path = folder / f"evaluation_{args.split}_{args.reload}{'_ema' * args.ema}.json"
    try:
        write_json(path, results)
        if "unavailability" not in results:
            return None
        write_png(results["unavailability"], path.with_suffix(".png"))
    except ParityError as error:  # a run of another user, or a disk to read from
        log.warning("the evaluation is not kept in the run's folder: %s", error)
        return None
    return path.with_suffix(".png")


def compare(args: argparse.Namespace) -> None:
    """Compare several experiments."""
    from parity.evaluation.evaluate import UNAVAILABLE
    from parity.evaluation.report.files import check_formats
    from parity.evaluation.report.report import plain, write_report
    from parity.evaluation.report.wandb_report import log_report
    from parity.evaluation.tables import show_comparison
    from parity.runs.comparison import run_comparison
    from parity.runs.naming import named_run
    from parity.storage.files import check_output, check_writable, write_output
    from parity.wandb_server import check_wandb_project

    if args.wandb_logger:
        check_wandb_project(args.wandb_project)
        if args.report is None:
            raise ParityError("--wandb_logger uploads the report: name its folder with --report DIR.")
    if args.report:
        check_writable(args.report)
        check_formats(args.format)
    output = check_output(args.json) if args.json else None
    experiments = [experiment for name in args.compare for experiment in _found(args, name)]
    experiments = list({experiment.save_dir.resolve(): experiment for experiment in experiments}.values())
    trained = [experiment for experiment in experiments if experiment.available_checkpoints()]
    for experiment in experiments:
        if experiment not in trained and (experiment.experiment_name in args.compare or args.seeds):
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
        together=bool(args.seeds),
    )
    if output is not None:  # before anything is shown: who reads that may have gone
        write_output(output, plain(results))
    files = write_report(results, args.report, args.format) if args.report else []
    show_comparison(results)
    if args.report:
        print(f"written to {args.report}: open {args.report / 'report.html'}")
        if args.wandb_logger:
            log_report(files, args.wandb_project, f"{args.dataset} {args.split}")


def _run_alone(args: argparse.Namespace, name: str, run: "Experiment") -> "Experiment":
    """Return a run that is compared by its folder or its folder's name, with what is overridden.

    Raises:
        ParityError: it is of another data set or collection, or options beside it would be ignored.
    """
    from parity.experiments import Experiment

    for option in ("seed", "seeds", "sweep", "run_name"):
        if is_given(getattr(args, option)):
            raise ParityError(
                f"--{option} would be ignored for {name}, which is one run: leave it out, or name the experiment, "
                f"{run.experiment_name}."
            )
    for option in ("dataset", "collection"):
        if getattr(args, option) not in (None, getattr(run, option)):
            raise ParityError(f"{name} is a run of {getattr(run, option)}: name that with --{option}.")
    overrides = parse_overrides(args.overrides)
    return Experiment(run.save_dir, overrides=overrides) if overrides else run


def _found(args: argparse.Namespace, name: str) -> list["Experiment"]:
    """Return what a name, a glob, a run's folder or its name is of, with every seed and point of a sweep."""
    from parity.experiments import catalogue
    from parity.experiments.variants import is_in_catalogue, run_by_name, sweep_points, variants
    from parity.runs.naming import named_run

    if not is_in_catalogue(args.dataset, name, args.collection):
        run = run_by_name(args.dataset, name, args.base_directory)
        if run is not None:
            return [_run_alone(args, name, run)]
    names = catalogue.matching(args.dataset, [name], args.collection)
    if not args.seeds and not args.sweep:
        return [named_run(args, found) for found in names]
    return [
        experiment
        for found in names
        for experiment in variants(
            args.dataset, found, collection=args.collection, base_directory=args.base_directory,
            run_name=args.run_name, seeds=asked_seeds(args), points=sweep_points(args.sweep),
            overrides=parse_overrides(args.overrides),
        )
    ]  # fmt: skip
