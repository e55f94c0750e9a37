"""Train base and parity models: parity train --dataset MNIST --experiment_name mlp_k2_add

The same command resumes a run where it was stopped.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from parity.command_line import (
    add_experiment_arguments,
    add_variants_arguments,
    asked_processes,
    asked_seeds,
    check_needed,
    parse_overrides,
)
from parity.errors import ParityError, cause

if TYPE_CHECKING:
    from parity.experiments import Experiment

log = logging.getLogger("parity.train")

_AMP = "bf16-mixed"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list data sets, collections and experiments, and exit")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("--print_config", action="store_true", help="print the config as JSON, and exit")
    parser.add_argument("--debug", action="store_true", help="detect anomalies, log more, show tracebacks")
    parser.add_argument("--fast_dev_run", action="store_true", help="run a few steps of everything, write nothing")
    add_experiment_arguments(parser)
    add_variants_arguments(parser)
    parser.add_argument("--experiment_name", nargs="+", metavar="NAME", help="names or globs, trained one by one")

    start = parser.add_argument_group("start")
    start.add_argument(
        "--base_weights", type=Path, metavar="FILE", help="load the base model from this file of published weights"
    )
    start.add_argument("--no_train_base", action="store_true", help="exit where the base model is not trained yet")
    start.add_argument("--resume_from", type=Path, metavar="FILE", help="resume from this checkpoint file")
    start.add_argument("--force-no-resume", action="store_true", help="start over, removing what the run left")

    training = parser.add_argument_group("training")
    training.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, cuda or mps (default: %(default)s)")
    training.add_argument(
        "--devices",
        default="1",
        help="number of devices on each node, their indices (0,1) or auto (default: %(default)s)",
    )
    training.add_argument("--distributed", action="store_true", help="train with DDP, as with several --devices")
    training.add_argument(
        "--num_nodes", type=int, default=1, metavar="N", help="number of nodes, under SLURM (default: %(default)s)"
    )
    training.add_argument("--sync_batchnorm", action="store_true", help="synchronise batch statistics across GPUs")
    training.add_argument("--amp", action="store_true", help="train in bf16 mixed precision")
    training.add_argument(
        "--fast", action="store_true", help="let GPUs use kernels that are not deterministic, and TF32"
    )
    training.add_argument(
        "--compile", nargs="?", const="default", choices=("default", "reduce-overhead"),
        help="compile what is computed of a batch; with reduce-overhead, a GPU replays it as CUDA graphs",
    )  # fmt: skip
    training.add_argument("--test_every_epoch", action="store_true", help="also log test metrics after each epoch")
    training.add_argument("--checkpoint_every", type=int, metavar="N", help="keep epoch_<N>.ckpt every N epochs")
    training.add_argument(
        "--save_every_minutes", type=float, default=30, metavar="M",
        help="also save within epochs, every M minutes (default: %(default)s)",
    )  # fmt: skip
    training.add_argument(
        "--grace", type=float, default=60, metavar="SECONDS",
        help="time to save in after a signal that ends the run (default: %(default)s)",
    )  # fmt: skip

    logs = parser.add_argument_group("logging")
    logs.add_argument(
        "--refresh_rate", type=int, default=50, metavar="N",
        help="refresh the progress bars every N steps (default: %(default)s)",
    )  # fmt: skip
    logs.add_argument("--track_grad_norm", action="store_true", help="log the norm of the gradients")
    logs.add_argument("--csv_logger", action=argparse.BooleanOptionalAction, default=True, help="log to metrics.csv")
    logs.add_argument("--tensorboard_logger", action="store_true", help="log to TensorBoard")
    logs.add_argument("--wandb_logger", action="store_true", help="log to Weights & Biases; needs --wandb_project")
    logs.add_argument("--wandb_project", metavar="NAME", help="W&B project")
    logs.add_argument(
        "--wandb_id", metavar="ID", help="W&B run to resume (default: that of the run's folder, or a new one)"
    )
    logs.add_argument("--wandb_name", metavar="NAME", help="display name of the W&B run (default: the run's name)")
    logs.add_argument("--wandb_checkpoint", action="store_true", help="upload the best checkpoint after training")
    return parser


def main(args: argparse.Namespace) -> None:
    """Train every experiment that is named, one after the other."""
    from parity.experiments import catalogue

    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    if args.json and not args.list:
        raise ParityError("--json is for --list: add --list, or leave it out.")
    if args.list:
        show_catalogue(args)
        return
    experiments = make_experiments(args)
    if args.print_config:
        print_configs(experiments)
    elif len(experiments) == 1:
        train(args, experiments[0])
    else:
        train_each(args, experiments)


def train(args: argparse.Namespace, experiment: "Experiment") -> None:
    """Train one experiment."""
    from parity.runs.training import run_training

    run_training(experiment, run_options(args), args.base_weights)


def train_each(args: argparse.Namespace, experiments: list["Experiment"]) -> None:
    """Train several experiments; one that is refused does not stop the others.

    Raises:
        ParityError: some were refused; all of their reasons are in the message.
    """
    run_options(args)
    refused = {}
    for experiment in experiments:
        try:
            train(args, experiment)
        except Exception as error:  # also of a library, or of a user's own objects
            # Of several processes, the others would wait for one that alone has stopped.
            if args.debug or (asked_processes(args) > 1 and not getattr(error, "everywhere", False)):
                raise
            reason = str(error) if isinstance(error, ParityError) else cause(error)
            log.warning("%s is refused: %s", experiment.run_name, reason)
            refused[experiment.run_name] = reason
    if refused:
        reasons = " ".join(f"{name}: {reason}" for name, reason in refused.items())
        summary = ParityError(f"{len(refused)} of {len(experiments)} runs were refused. {reasons}")
        summary.everywhere = True
        raise summary


def experiment_names(args: argparse.Namespace) -> list[str]:
    """Return the names of the experiments that the options name, each once.

    Raises:
        ParityError: they name none, or have an option for one where there are several.
    """
    from parity.experiments import catalogue
    from parity.experiments.variants import sweep_points

    if not args.dataset or not args.experiment_name:
        raise ParityError("name a --dataset and an --experiment_name; --list shows what there is.")
    names = catalogue.matching(args.dataset, args.experiment_name, args.collection)
    runs = len(names) * len(asked_seeds(args)) * len(sweep_points(args.sweep))
    if runs > 1:
        for option in ("run_name", "resume_from", "wandb_id", "wandb_name"):
            if getattr(args, option):
                raise ParityError(f"--{option} is for one experiment, and these are {runs}.")
    return names


def make_experiments(args: argparse.Namespace) -> list["Experiment"]:
    """Return the experiments that the options name, with what they override, for each seed and point of a sweep.

    Raises:
        ParityError: something is wrong with one.
    """
    from parity.experiments.variants import sweep_points, variants

    check_needed(args, dict.fromkeys(("wandb_project", "wandb_id", "wandb_name", "wandb_checkpoint"), "wandb_logger"))
    overrides = parse_overrides(args.overrides)
    if args.amp:
        _check_precision(overrides, args.sweep)
        overrides["trainer.precision"] = _AMP
    return [
        experiment
        for name in experiment_names(args)
        for experiment in variants(
            args.dataset, name, collection=args.collection, base_directory=args.base_directory,
            run_name=args.run_name, seeds=asked_seeds(args), points=sweep_points(args.sweep), overrides=overrides,
        )
    ]  # fmt: skip


def _check_precision(overrides: dict[str, str], swept: list[str]) -> None:
    """Refuse another precision than that of --amp beside it."""
    if overrides.get("trainer.precision", _AMP) != _AMP:
        raise ParityError(f"--amp is --set trainer.precision={_AMP}, and --set gives it another value: leave one out.")
    if any(text.partition("=")[0] == "trainer.precision" for text in swept):
        raise ParityError(f"--amp is --set trainer.precision={_AMP}, and --sweep gives that too: leave one out.")


def run_options(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # its type is imported late
    """Turn parsed options into what ``run_training`` takes."""
    from parity.runs.training import RunOptions
    from parity.training import Hardware

    extra = {"fast_dev_run": True} if args.fast_dev_run else {}
    if args.debug:
        extra["detect_anomaly"] = True
    return RunOptions(
        hardware=Hardware(
            args.accelerator, args.devices, args.num_nodes, args.distributed, args.sync_batchnorm, extra, args.fast
        ),
        resume=not args.force_no_resume,
        resume_from=args.resume_from,
        train_base=not args.no_train_base,
        test_every_epoch=args.test_every_epoch,
        checkpoint_every=args.checkpoint_every,
        save_every_minutes=args.save_every_minutes,
        grace=args.grace,
        compile=args.compile,
        track_grad_norm=args.track_grad_norm,
        refresh_rate=args.refresh_rate,
        csv=args.csv_logger,
        tensorboard=args.tensorboard_logger,
        wandb=args.wandb_logger,
        wandb_project=args.wandb_project,
        wandb_id=args.wandb_id,
        wandb_name=args.wandb_name,
        wandb_checkpoint=args.wandb_checkpoint,
    )


def print_configs(experiments: list["Experiment"]) -> None:
    """Print configs as JSON, by the names of the runs."""
    from parity.experiments.config import to_plain

    for experiment in experiments:
        print(json.dumps({experiment.run_name: to_plain(experiment.config)}, indent=2))


def show_catalogue(args: argparse.Namespace) -> None:
    """Print data sets, collections and experiments."""
    from parity import terminal
    from parity.experiments import listing

    found = listing.rows(args.dataset, args.base_directory)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        listing.show(found, terminal.console(**({} if sys.stdout.isatty() else {"width": 140})))
