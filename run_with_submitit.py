#!/usr/bin/env python
"""Train on SLURM: python run_with_submitit.py, or parity submit, --dataset MNIST --experiment_name mlp_k2_add"""

from parity.command_line import parsed, run_command
from parity.commands.submit import get_parser, main

if __name__ == "__main__":
    raise SystemExit(run_command(main, parsed(get_parser())))
