"""Settings as plain values: to be kept as JSON, and compared with those of another time.

An object is the name that users import it by and its parameters: ``{"object": "CrossEntropy", ...}``. A name of ours
has no module, so that modules can be moved; a user's has.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

VERSION = 2
"""Of the form of plain settings. In version 1, which wrote no version, names of ours had modules too."""

ABSENT = "absent"
"""In a dataclass field's metadata: what was meant by settings that were written before there was this field."""

OWN_PACKAGE = "parity_own_experiments_"
"""How the package of a user's folder begins whose modules' names were taken; what they hold is named as without it."""

_OUR_MODULES = re.compile(r"parity\.(?:experiments\.[^.]+\.[^.]+\.experiment_parameters\.|[a-z_0-9]+\.)*(?=[^.])")


def walk(value: Any, leaf: Callable[[Any], Any], keep_tuples: bool = False) -> Any:
    """Rebuild mappings, lists and tuples, with what ``leaf`` makes of everything else in them.

    Args:
        value: nested values.
        leaf: called with what is neither a mapping nor a list or tuple.
        keep_tuples: otherwise tuples become lists, as in JSON.
    """
    if isinstance(value, Mapping):
        return {key: walk(item, leaf, keep_tuples) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [walk(item, leaf, keep_tuples) for item in value]
        return type(value)(items) if keep_tuples else items
    return leaf(value)


def to_plain(value: Any) -> Any:
    """Turn settings into what JSON can hold: objects by their name and parameters, the same in every process."""
    if isinstance(value, Mapping):
        value = {str(key): item for key, item in value.items()}
    return walk(value, _object)


def _object(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, functools.partial):
        return {"object": _name(value.func), "args": to_plain(value.args), **to_plain(value.keywords)}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _name(value)
    parameters = {name: to_plain(item) for name, item in _parameters(value).items()}
    if (
        not parameters and not dataclasses.is_dataclass(value) and " at 0x" not in repr(value)
    ):  # an address, another one in every process
        parameters = {"as": " ".join(repr(value).split())}
    return {"object": _name(type(value)), **parameters}


def _name(thing: Any) -> str:
    module: str = thing.__module__
    if module.startswith(OWN_PACKAGE):
        module = module.partition(".")[2]
    return thing.__qualname__ if module.partition(".")[0] == "parity" else f"{module}.{thing.__qualname__}"


def _parameters(value: Any) -> dict[str, Any]:
    """Return what an object was made with, by name: a dataclass's fields, or attributes and submodules."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    own = {**getattr(value, "__dict__", {}), **getattr(value, "_modules", {})}
    return {name: item for name, item in own.items() if not name.startswith("_") and name != "training"}


def upgraded(plain: Any) -> Any:
    """Return plain settings of version 1 in the form of today."""
    return walk(plain, lambda value: _OUR_MODULES.sub("", value, count=1) if _is_ours(value) else value)


def _is_ours(value: Any) -> bool:
    return isinstance(value, str) and _OUR_MODULES.match(value) is not None


def completed(old: Any, value: Any) -> Any:
    """Return older plain settings with the parameters that objects have been given since, as they were without them.

    Args:
        old: as ``to_plain`` made them at another time.
        value: the settings of today, objects and all.
    """
    if isinstance(value, Mapping) and isinstance(old, dict):
        return old | {key: completed(old[key], item) for key, item in value.items() if key in old}
    if isinstance(value, list | tuple) and isinstance(old, list) and len(old) == len(value):
        return [completed(*pair) for pair in zip(old, value, strict=True)]
    if not isinstance(old, dict) or old.get("object") != _name(type(value)):
        return old
    filled = dict(old)
    absent = _absent(value)
    for name, item in _parameters(value).items():
        if name in old:
            filled[name] = completed(old[name], item)
        elif name in absent:
            filled[name] = to_plain(absent[name])
    return filled


def as_before(value: Any, old: Any) -> Any:
    """Return settings of today, with dataclass fields that older plain settings lack as they were without them."""
    if isinstance(value, Mapping) and isinstance(old, dict):
        return {key: as_before(item, old.get(key)) for key, item in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or not isinstance(old, dict):
        return value
    changes = {
        field.name: as_before(getattr(value, field.name), old[field.name])
        if field.name in old
        else field.metadata.get(ABSENT, getattr(value, field.name))
        for field in dataclasses.fields(value)
        if field.init
    }
    return dataclasses.replace(value, **changes) if old.get("object") == _name(type(value)) else value


def _absent(value: Any) -> dict[str, Any]:
    """Return what an object's parameters are where nothing is said of them."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: field.metadata.get(ABSENT, field.default)
            for field in dataclasses.fields(value)
            if ABSENT in field.metadata or field.default is not dataclasses.MISSING
        }
    try:
        parameters = inspect.signature(type(value)).parameters
    except (TypeError, ValueError):  # one of C
        return {}
    return {name: one.default for name, one in parameters.items() if one.default is not one.empty}


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Name what differs between two plain configs, a line each: 'code.k: 2 -> 3'."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, "(none)"), new.get(key, "(none)"), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {old} -> {new}"
