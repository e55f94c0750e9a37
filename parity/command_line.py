"""What the command lines share; light to import, so that --help and a mistyped option answer at once."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from parity.errors import ParityError, Stopped


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names an experiment and where runs lie."""
    which = parser.add_argument_group("experiment")
    which.add_argument("--dataset", help="data set, e.g. MNIST")
    which.add_argument("--collection", help="collection of the experiment; names are unique without it")
    which.add_argument("--base_directory", default="experiments", help="runs lie under it (default: %(default)s)")
    which.add_argument("--run_name", help="folder of the run; default: the experiment's name, with -seed=N if given")
    which.add_argument("--seed", type=int, help="of everything random (default: 0)")
    which.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY.PATH=VALUE", dest="overrides",
        help="override scalars of the config, e.g. trainer.max_epochs=40 optimizer.lr=0.01",
    )  # fmt: skip
    which.add_argument(
        "--experiments_path", action="append", default=[], metavar="DIR",
        help="also find experiments in DIR/<Dataset>/<collection>/ (or name folders in PARITY_EXPERIMENTS)",
    )  # fmt: skip


def parse_overrides(texts: list[str]) -> dict[str, str]:
    """Turn ['a.b=1'] into {'a.b': '1'}.

    Raises:
        ParityError: a text without '='.
    """
    overrides = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ParityError(f"--set takes KEY.PATH=VALUE, e.g. trainer.max_epochs=40, not '{text}'.")
        overrides[path] = value
    return overrides


def run_command(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace, debug: bool = False) -> int:
    """Run a command line's main function; a user's mistake ends in its one sentence and status 1.

    Args:
        main: does the work.
        args: its parsed options.
        debug: show the traceback too.
    """
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stdout)
    # One of several processes speaks: of those that train.py starts, or of a SLURM job's.
    speaks = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    logging.getLogger("parity").setLevel(logging.DEBUG if debug else logging.INFO if speaks else logging.WARNING)
    try:
        main(args)
    except ParityError as error:
        if debug:
            raise
        if speaks or not error.everywhere:
            sys.stderr.write(f"error: {error}\n")
        return 1
    except Stopped as stop:
        if not speaks:
            return 0  # else Lightning would kill the process that started this one, before it is done
        sys.stderr.write(f"{stop}: the same command goes on.\n")
        return 128 + stop.signal
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        return 128 + signal.SIGINT
    return 0
