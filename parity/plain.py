"""Settings as plain values: to be kept as JSON, and compared with those of another time."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any


def to_plain(value: Any) -> Any:
    """Turn settings into what JSON can hold: objects by their name and parameters, the same in every process."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, functools.partial):
        return {"object": _name(value.func), "args": to_plain(value.args), **to_plain(value.keywords)}
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"object": _name(type(value)), **fields}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _name(value)
    own = {**getattr(value, "__dict__", {}), **getattr(value, "_modules", {})}
    parameters = {name: to_plain(item) for name, item in own.items() if not name.startswith("_") and name != "training"}
    if not parameters and " at 0x" not in repr(value):  # an address, another one in every process
        parameters = {"as": " ".join(repr(value).split())}
    return {"object": _name(type(value)), **parameters}


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Name what differs between two plain configs, a line each: 'code.k: 2 -> 3'."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, "(none)"), new.get(key, "(none)"), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {old} -> {new}"
