"""Experiments: ``<Dataset>/<collection>/experiment_parameters.py`` with ``CONFIGS``, and the door to trained models."""

from parity.experiments.utils.experiment import Experiment

__all__ = ["Experiment"]
