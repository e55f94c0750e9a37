"""What experiment_parameters.py files are written with, and what turns their configs into runs."""

from parity.experiments.utils.config import update_config

__all__ = ["update_config"]
