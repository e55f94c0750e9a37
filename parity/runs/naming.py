"""The run that a command line names."""

import argparse

from parity.command_line import parse_overrides
from parity.errors import ParityError
from parity.experiments import Experiment


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
