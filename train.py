#!/usr/bin/env python
"""Train base and parity models: python train.py, or parity train, --dataset MNIST --experiment_name mlp_k2_add"""

from parity.command_line import parsed, run_command
from parity.commands.train import get_parser, main

if __name__ == "__main__":
    raise SystemExit(run_command(main, parsed(get_parser())))
