"""What the command lines share; light to import, so that --help and a mistyped option answer at once."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parity import processes
from parity.errors import ParityError, Stopped, cause
from parity.options import check_numbers, type_numbers
from parity.settings import check_printable, user_path
from parity.terminal import check_output, guard_output


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names an experiment and where runs lie."""
    which = parser.add_argument_group("experiment")
    which.add_argument("--dataset", help="name of the data set, e.g. MNIST")
    which.add_argument("--collection", help="collection of the experiment; not needed, names are unique")
    which.add_argument(
        "--base_directory", type=Path, default=Path("experiments"), metavar="DIR",
        help="root folder of all runs (default: %(default)s)",
    )  # fmt: skip
    which.add_argument(
        "--run_name", help="folder name of the run (default: the experiment's name, with -seed=N if given)"
    )
    which.add_argument("--seed", type=int, metavar="N", help="random seed (default: 0)")
    which.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE", dest="overrides",
        help="override scalars of the config, e.g. trainer.max_epochs=40 optimizer.lr=0.01",
    )  # fmt: skip
    which.add_argument(
        "--experiments_path", type=Path, action="append", default=[], metavar="DIR",
        help="also find experiments in DIR/<Dataset>/<collection>/ (or list folders in PARITY_EXPERIMENTS)",
    )  # fmt: skip


def add_variants_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes several runs of an experiment, for commands that take several."""
    several = parser.add_argument_group("several runs of an experiment")
    several.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="several random seeds: a run with each, reported as mean ± sd"
    )
    several.add_argument(
        "--sweep", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE,...",
        help="a run with each value, or combination of values, e.g. code.k=2,3,4; runs are named by what differs",
    )  # fmt: skip


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """Turn ['a.b=1'] into {'a.b': '1'}.

    Raises:
        ParityError: a text without '=', or a key twice.
    """
    overrides: dict[str, str] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ParityError(f"--set takes KEY.PATH=VALUE, e.g. trainer.max_epochs=40, not '{text}'.")
        if path in overrides:
            raise ParityError(f"--set has '{path}' twice, {overrides[path]} and {value}: leave one out.")
        overrides[path] = value
    return overrides


def is_given(value: object, default: object = None) -> bool:
    """Return whether an option's value is another than what it has where it is left out: 0 is one, and False is not."""
    return not (value is None or value is False or value == [] or (default is not None and value == default))


def check_needed(args: argparse.Namespace, needed: Mapping[str, str]) -> None:
    """Make sure that no option is given without another one that it is for.

    Args:
        args: parsed options.
        needed: names of such options, and of those that they are for.

    Raises:
        ParityError: one is, and would be ignored.
    """
    for name, other in needed.items():
        if is_given(getattr(args, name)) and not is_given(getattr(args, other)):
            raise ParityError(f"--{name} would be ignored without --{other}: add that, or leave it out.")


def check_weights_alone(args: argparse.Namespace) -> None:
    """Make sure that no checkpoint is named beside a file of weights, which takes its place.

    Raises:
        ParityError: one is, and would be ignored.
    """
    if args.weights is not None and (args.ema or is_given(args.reload, "best")):
        name = "ema" if args.ema else "reload"
        raise ParityError(f"--{name} is of a run's checkpoint, and would be ignored beside --weights: leave one out.")


def asked_seeds(args: argparse.Namespace) -> list[int | None]:
    """Return the seeds that parsed options ask for, one run each; None for the default.

    Raises:
        ParityError: both options are given, or a seed twice.
    """
    if not args.seeds:
        return [args.seed]
    if args.seed is not None or len(set(args.seeds)) < len(args.seeds):
        raise ParityError("--seeds takes different seeds, and no --seed beside it.")
    return list(args.seeds)


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return parsed options, numbers read strictly; help goes to standard output whatever that can show.

    Args:
        parser: of the options.
        arguments: those of the process by default.
    """
    guard_output()
    type_numbers(parser)
    return parser.parse_args(arguments)


def run_command(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> int:
    """Run a command line's main function; an error ends in its one sentence and status 1.

    Args:
        main: does the work.
        args: its parsed options; with ``debug``, tracebacks are shown, and where there is no such option, those of
            errors that nobody foresaw.
    """
    guard_output()
    debug = getattr(args, "debug", None)
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stdout)
    first = True
    try:
        check_numbers(args)
        expand_paths(args)
        first = processes.is_first(asked_processes(args))
        logging.getLogger("parity").setLevel(logging.DEBUG if debug else logging.INFO if first else logging.WARNING)
        main(args)
        check_output()
    except ParityError as error:
        if debug:
            raise
        if first or not error.everywhere:
            sys.stderr.write(f"error: {error}\n")
        return 1
    except Stopped as stop:
        if not first:
            return 0  # else Lightning would kill the process that started this one, before it is done
        sys.stderr.write(f"{stop}: the same command resumes it.\n")
        return 128 + stop.signal
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        return 128 + signal.SIGINT
    except Exception as error:  # of a library, or of a user's own objects
        if debug is not False:
            raise
        sys.stderr.write(f"error: {cause(error)} (--debug shows the traceback)\n")
        return 1
    return 0


def expand_paths(args: argparse.Namespace) -> None:
    """Replace every path among parsed options by what it means.

    Raises:
        ParityError: no file can have such a path, or a text has control characters: a name with a line break would
            become a line of a batch script.
    """
    for name, value in vars(args).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str | Path):
                check_printable(str(text), f"--{name}")
        if isinstance(value, Path):
            setattr(args, name, user_path(value))
        elif isinstance(value, list) and any(isinstance(item, Path) for item in value):
            setattr(args, name, [user_path(item) for item in value])


def asked_processes(args: argparse.Namespace) -> int:
    """Return how many processes parsed options ask to train together."""
    devices, num_nodes = getattr(args, "devices", "1"), getattr(args, "num_nodes", 1)
    return num_nodes * processes.on_each_node(getattr(args, "accelerator", "auto"), devices)
