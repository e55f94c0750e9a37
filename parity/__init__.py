"""Learned erasure codes for neural-network inference.

>>> result = parity.protect(network, train_data, val_data, k=4, checkpoints_path="mine/")
>>> result.save("artefact/")
>>> coded = parity.load("artefact/")
"""

import importlib
from typing import TYPE_CHECKING, Any

from parity.versions import __version__

__all__ = ["CodedModel", "__version__", "evaluate", "load", "protect", "zoo"]

# Where the names lie that are imported when they are first asked for, so that ``import parity`` takes no time.
_HOMES = {
    "CodedModel": "parity.coded_model",
    "evaluate": "parity.evaluation.evaluate",
    "load": "parity.export",
    "protect": "parity.protection.protect",
}

_ROOMS = ("coders", "data", "protection", "tasks", "zoo")
"""Whose names a user writes in full, as parity.data.Scaling."""

if TYPE_CHECKING:
    from parity.coded_model import CodedModel
    from parity.evaluation.evaluate import evaluate
    from parity.protection.protect import protect


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"parity.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
