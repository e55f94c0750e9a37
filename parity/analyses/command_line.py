"""The command lines of studies: their options are a grid's axes."""

import argparse
import logging
import sys
from pathlib import Path

from parity.analyses.grid import DATASETS, DEFAULTS, NAMES, Axes
from parity.analyses.study import ARTIFACTS, Kind, Study, kind_named
from parity.command_line import parsed, run_command
from parity.errors import ParityError

log = logging.getLogger(__name__)

_JOB_OPTIONS = ("partition", "account", "qos", "constraint", "job_name")


def command(kind: Kind) -> int:
    """Run a study's command line; return its exit status."""
    module = sys.modules["__main__"]
    args = parsed(get_parser(kind, module.__doc__))
    return run_command(main, args)


def get_parser(kind: Kind, description: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a study's options; an axis that is not given is None."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(study=kind.name, share=(0, 1))
    parser.add_argument(
        "--paper", action="store_true", help="run the paper's grid, which takes hours; axes can be changed"
    )

    defaults = {**DEFAULTS, **kind.axes}
    grid = parser.add_argument_group("axes, each of one or several values, and what all trials share")

    def axis(name: str, value_type: type, text: str) -> None:
        shown = " ".join(map(str, defaults[name]))
        known = f": {', '.join(NAMES[name])}" if name in NAMES else ""
        grid.add_argument(f"--{name}", nargs="+", type=value_type, help=f"{text}{known} (default: {shown})")

    def shared(name: str, text: str) -> None:
        shown = "by the task" if defaults[name] is None else defaults[name]
        grid.add_argument(f"--{name}", type=int, metavar="N", help=f"{text} (default: {shown})")

    axis("task", str, f"{', '.join(DATASETS)}, MNIST, FashionMNIST, or another data set of images")
    axis("rule", str, "learning rule, backpropagation or predictive coding")
    axis("widths", int, "widths of the hidden layers")
    axis("lr", float, "learning rates of the weights")
    axis("state_lr", float, "γ, learning rates of the hidden states (pc)")
    axis("optimizer", str, "optimiser of the weights")
    axis("momentum", float, "momentum of SGD; AdamW's is 0.9")
    axis("activation", str, "activation of the hidden layers")
    axis("state_init", str, "initial hidden states (pc)")
    axis("weight_init", str, "distribution of the initial weights")
    flag = argparse.BooleanOptionalAction
    grid.add_argument("--parity", action=flag, help="train parity models, k = 2, beside the base models")
    grid.add_argument("--constant_layer_size", action=flag, help="make input and output as wide as the hidden layers")
    shared("hidden_layers", "number of hidden layers")
    shared("steps", "T, steps of inference (pc)")
    shared("seeds", "number of seeds, from 0")
    shared("epochs", "number of epochs")
    shared("batch_size", "number of coding groups in a batch")
    shared("steps_per_epoch", "number of batches in an epoch, at most")

    run = parser.add_argument_group("the run")
    run.add_argument(
        "--artifacts", type=Path, default=ARTIFACTS, help="root folder of all studies (default: %(default)s)"
    )
    run.add_argument("--id", help="folder name of the study (default: a hash of the grid)")
    run.add_argument(
        "--jobs", type=int, default=1, help="number of processes, 0 for this one alone (default: %(default)s)"
    )
    run.add_argument("--debug", action="store_true", help="show tracebacks")

    job = parser.add_argument_group("SLURM")
    job.add_argument("--submit", action="store_true", help="submit the trials to SLURM, as an array of jobs on CPUs")
    job.add_argument("--array", type=int, default=4, help="number of jobs in the array (default: %(default)s)")
    job.add_argument(
        "--timeout_min", type=int, default=60, metavar="MINUTES", help="time limit of a job (default: %(default)s)"
    )
    job.add_argument("--mem_gb", type=float, metavar="GB", help="memory of a job")
    for name in _JOB_OPTIONS:
        job.add_argument(f"--{name}", help=f"{name} of the job, as of sbatch")
    job.add_argument("--dry_run", action="store_true", help="print the batch script and submit nothing")
    return parser


def study_of(args: argparse.Namespace) -> Study:
    """Return the study that parsed options are of.

    Raises:
        ParityError: the grid makes no sense, or ``--id`` is another grid's.
    """
    kind = kind_named(args.study)
    given = {name: getattr(args, name) for name in DEFAULTS if getattr(args, name) is not None}
    axes: Axes = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    paper: Axes = {}
    if args.paper:
        tasks = axes.get("task", DEFAULTS["task"])
        if len(tasks) > 1:
            raise ParityError("--paper is of one --task: rates and seeds are others for each.")
        paper = kind.paper(tasks[0])
    return Study(kind, {**paper, **axes}, args.artifacts, args.id)


def main(args: argparse.Namespace) -> None:
    """Run a study, or a share of it, and draw what came out when all of it is there."""
    study = study_of(args)
    if args.submit or args.dry_run:
        from parity.analyses.submission import submit

        submit(study, args, main)
        return
    left = len(study.unfinished())
    log.info("%s: %d of %d trials are done", study.folder, len(study.trials) - left, len(study.trials))
    study.run(args.jobs, args.share)
    if still := study.unfinished():
        log.info("this share is done; %d trials are left to the other jobs", len(still))
        return
    log.info("%s\n%s", study.write(), study.folder)
