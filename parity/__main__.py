"""The command ``parity``, also ``python -m parity``: every module of ``parity.commands`` is one of its commands."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from parity import commands
from parity.command_line import parsed, run_command
from parity.versions import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: those of the process by default.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    parser = argparse.ArgumentParser(prog="parity", description="Learned erasure codes for neural-network inference.")
    parser.add_argument("--version", action="version", version=f"parity {__version__}")
    parser.add_argument("command", choices=names, help="command to run; parity COMMAND --help lists its options")
    name = parsed(parser, arguments[:1]).command
    command = importlib.import_module(f"parity.commands.{name}")
    own = command.get_parser()
    own.prog = f"parity {name}"
    return run_command(command.main, parsed(own, arguments[1:]))


if __name__ == "__main__":
    raise SystemExit(main())
