"""Configs: nested dicts with scalars and objects as values, immutable once loaded.

Keys of a config; any other is refused before training (parity/experiments/check.py):

- ``data``: arguments of the data set's datamodule: ``batch_size`` (coding groups, per device), ...
- ``model``: ``network``, a constructor called with (query_shape, prediction_shape), and its further arguments
- ``optimizer``: factory, called with the parameters
- ``schedule``: optional: factory of the learning rate's schedule, called with (optimizer, number of steps)
- ``policies``: optional: values that change with time, by keyword, ``dict(lr=Exponential(...))``; docs/training.md
- ``averaging``: optional: ``EMA(decay=0.999)`` keeps a running mean of what is trained, beside it
- ``loss``: what is minimised
- ``trainer``: arguments of Lightning's Trainer: ``max_epochs``, ``precision``, ``gradient_clip_val``, ...
- ``base``: parity experiments: the base model, by its experiment's name or as a file of weights
- ``code``: parity experiments: ``k``, ``r``, ``encoder`` and ``decoder``, constructors called with (k, r, shape)
- ``trained``: parity experiments: which of 'encoder', 'parity_models', 'decoder' are trained; by default the parity
  models. Parity models that are not are the base model itself
- ``parity_init``: parity experiments: called with each parity model before training; None leaves the network's own
- ``parity_start``: optional, parity experiments: called with each parity model and the trained base model, e.g.
  ``FromBaseModel()``, which starts from that one's weights
"""

import ast
import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from parity.errors import ParityError, did_you_mean
from parity.plain import differences, to_plain

__all__ = ["Config", "apply_overrides", "differences", "frozen", "to_plain", "update_config"]

Config = Mapping[str, Any]

OF_CODES = frozenset({"base", "code", "trained", "parity_init", "parity_start"})
"""Keys of parity experiments alone."""

KEYS = OF_CODES | {"data", "model", "optimizer", "schedule", "policies", "averaging", "loss", "trainer"}


class NotedConfig(Mapping[str, Any]):
    """A view of a config that notes which keys were asked for: one that nobody asks for is ignored."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return self._config[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)


def update_config(config: Config, changes: Config) -> dict[str, Any]:
    """Return a copy of a config with changes, dict by dict: ``{"code": {"k": 3}}`` leaves the rest of ``code``.

    Where the ``network`` of a dict changes, the arguments of the old one are dropped.
    """
    if "network" in changes and config.get("network") != changes["network"]:
        config = {}
    updated = {key: update_config(value, {}) if isinstance(value, Mapping) else value for key, value in config.items()}
    for key, value in changes.items():
        old = updated.get(key)
        updated[key] = (
            update_config(old if isinstance(old, Mapping) else {}, value) if isinstance(value, Mapping) else value
        )
    return updated


def frozen(config: Config) -> Config:
    """Return a view of a copy that nobody can change."""
    return MappingProxyType(
        {key: frozen(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    )


def apply_overrides(config: Config, overrides: Config) -> dict[str, Any]:
    """Return a copy with scalars replaced: ``{"trainer.max_epochs": "40", "optimizer.lr": 0.01}``.

    Values keep the type they have in the config; a text is read as that type.

    Raises:
        ParityError: the key is unknown, it does not hold a scalar, or the value is of another type.
    """
    changed = update_config(config, {})
    for path, value in overrides.items():
        changed = _with(changed, path.split("."), value, path)
    return changed


def _with(node: Any, keys: list[str], value: Any, path: str) -> Any:
    if not keys:
        return _as_type_of(node, value, path)
    children = _children(node)
    if keys[0] not in children:
        known = _leaves(node, path[: len(path) - len(".".join(keys))])
        raise ParityError(f"the config has no '{path}' to override: {did_you_mean(path, known)}")
    child = _with(children[keys[0]], keys[1:], value, path)
    return {**node, keys[0]: child} if isinstance(node, Mapping) else dataclasses.replace(node, **{keys[0]: child})


def _children(node: Any) -> dict[str, Any]:
    if isinstance(node, Mapping):
        return dict(node)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return {}


def _leaves(node: Any, prefix: str) -> Iterator[str]:
    for key, child in _children(node).items():
        if _children(child):
            yield from _leaves(child, f"{prefix}{key}.")
        elif child is None or isinstance(child, bool | int | float | str):
            yield f"{prefix}{key}"


def _as_type_of(old: Any, new: Any, path: str) -> Any:
    if not (old is None or isinstance(old, bool | int | float | str)):
        raise ParityError(f"'{path}' does not hold a scalar, so --set cannot override it: copy the config instead.")
    if isinstance(new, str) and not isinstance(old, str):
        try:
            new = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(new.lower(), new))
        except (ValueError, SyntaxError):
            if old is not None:
                raise ParityError(f"'{path}' is {_described(old)}, and '{new}' is not.") from None
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        new = float(new)
    if old is not None and type(new) is not type(old):
        raise ParityError(f"'{path}' is {_described(old)}, and {new!r} is not.")
    return new


def _described(value: Any) -> str:
    return f"of type {type(value).__name__} ({value!r})"
