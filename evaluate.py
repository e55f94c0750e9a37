#!/usr/bin/env python
"""Evaluate or compare codes: python evaluate.py, or parity evaluate, --dataset MNIST --experiment_name mlp_k2_add"""

from parity.command_line import parsed, run_command
from parity.commands.evaluate import get_parser, main

if __name__ == "__main__":
    raise SystemExit(run_command(main, parsed(get_parser())))
