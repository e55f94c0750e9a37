"""Experiments: ``<Dataset>/<collection>/experiment_parameters.py`` with ``CONFIGS``, and the door to trained models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.experiments.experiment import Experiment

__all__ = ["Experiment"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command lines' --help needs no torch."""
    if name == "Experiment":
        from parity.experiments.experiment import Experiment

        return Experiment
    raise AttributeError(f"module {__name__} has no attribute {name}")
