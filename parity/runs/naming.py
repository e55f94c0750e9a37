"""The run that a command line names."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from parity.command_line import is_given, parse_overrides
from parity.errors import ParityError
from parity.experiments import Experiment
from parity.experiments.experiment import BASE_DIRECTORY

OF_RUNS = ("dataset", "experiment_name", "collection", "base_directory", "run_name", "seed")
"""Options that name a run, as its folder does."""

_DEFAULTS = {"base_directory": Path(BASE_DIRECTORY), "reload": "best"}
_OPTIONS = {"overrides": "set"}


def named_run(args: argparse.Namespace, name: str) -> Experiment:
    """Return an experiment's run, with the overrides that it was started with if it was.

    Args:
        args: options of ``add_experiment_arguments``.
        name: of the experiment.

    Raises:
        ParityError: there is no such experiment, or the folder is another run's.
    """
    overrides = parse_overrides(args.overrides)
    experiment = Experiment(
        args.dataset, name, collection=args.collection, base_directory=args.base_directory,
        run_name=args.run_name, seed=args.seed, overrides=overrides,
    )  # fmt: skip
    if not experiment.folder.has_identity():
        return experiment
    run = Experiment(experiment.save_dir, overrides=overrides)
    if run.experiment_name != experiment.experiment_name or args.seed not in (None, run.seed):
        raise ParityError(f"{run.save_dir} is a run of {run.experiment_name} with seed {run.seed}.")
    return run


def run_in(args: argparse.Namespace, folder: Path) -> Experiment:
    """Return the run that lies in a folder, which a command line names in place of the experiment.

    Args:
        args: options of ``add_experiment_arguments``.
        folder: of the run.

    Raises:
        ParityError: it is not a run's, or there are options beside it that would be ignored.
    """
    check_folder_alone(args, OF_RUNS)
    return Experiment(folder, overrides=parse_overrides(args.overrides))


def check_folder_alone(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Make sure that none of these options is given beside a folder, which stands for them.

    Raises:
        ParityError: one is, and would be ignored.
    """
    for name in names:
        if is_given(getattr(args, name), _DEFAULTS.get(name)):
            option = _OPTIONS.get(name, name)
            raise ParityError(f"--{option} would be ignored beside the folder that is named: leave one of them out.")
