#!/usr/bin/env python
"""Serve a code over HTTP: python serve.py, or parity serve, --dataset MNIST --experiment_name mlp_k4_cells_kl"""

from parity.command_line import parsed, run_command
from parity.commands.serve import get_parser, main

if __name__ == "__main__":
    raise SystemExit(run_command(main, parsed(get_parser())))
