#!/usr/bin/env python
"""Export a code as an artefact: python export.py, or parity export, --dataset MNIST --experiment_name mlp_k2_add"""

from parity.command_line import parsed, run_command
from parity.commands.export import get_parser, main

if __name__ == "__main__":
    raise SystemExit(run_command(main, parsed(get_parser())))
