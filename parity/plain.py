"""Settings as plain values: kept as JSON, and compared with those of another time.

An object is the name that users import it by and its parameters: ``{"object": "CrossEntropy", ...}``. A name of ours
has no module, so that modules can be moved; a user's has.
"""

import dataclasses
import functools
import hashlib
import inspect
import math
import operator
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

VERSION = 3
"""Of the form of plain settings. Version 1, which wrote no version, kept the modules of our names too; version 2 had
neither what tensors hold nor arguments that an object keeps under a private name."""

ABSENT = "absent"
"""In a dataclass field's metadata: the value that settings written before there was this field stand for."""

OWN_PACKAGE = "parity_own_experiments_"
"""How the package of a user's folder begins whose modules' names were taken; what they hold is named as without it."""

_MODULES_OF_VERSION_1 = "analyses|coded_model|coders|data|erasures|evaluation|experiments|grids|models|tasks|training"
_OUR_NAME = re.compile(
    rf"parity\.(?:{_MODULES_OF_VERSION_1})\."
    r"(?:[^.]+\.[^.]+\.experiment_parameters\.|[a-z_0-9]+\.)*(?=[^.]+)"
)


class Change(NamedTuple):
    """One difference between two plain settings."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.old} -> {self.new}"


def walk(value: Any, leaf: Callable[[Any], Any], keys: Callable[[Any], Any] = str, keep_tuples: bool = False) -> Any:
    """Rebuild mappings, lists and tuples, with what ``leaf`` makes of everything else in them.

    Args:
        value: nested values.
        leaf: called with what is neither a mapping nor a list or tuple.
        keys: called with the keys of mappings.
        keep_tuples: keep tuples, and subclasses of lists; otherwise they become lists, as in JSON. Named tuples are
            leaves then: a checkpoint cannot hold their class.
    """
    if isinstance(value, Mapping):
        return {keys(key): walk(item, leaf, keys, keep_tuples) for key, item in value.items()}
    if isinstance(value, list | tuple) and not (keep_tuples and _is_named(value)):
        items = [walk(item, leaf, keys, keep_tuples) for item in value]
        return type(value)(items) if keep_tuples else items
    return leaf(value)


def _is_named(value: list[Any] | tuple[Any, ...]) -> bool:
    return hasattr(value, "_fields")


def to_plain(value: Any) -> Any:
    """Turn settings into what JSON can hold: objects by their name and parameters, the same in every process."""
    return walk(value, _object)


def _object(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(to_plain(list(value)), key=repr)
    if _is_array(value):
        return _array(value)
    if isinstance(value, functools.partial):
        return {"object": _name(value.func), "args": to_plain(value.args), **to_plain(value.keywords)}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _name(value)
    parameters = {name: to_plain(item) for name, item in _parameters(value).items()}
    has_address = " at 0x" in repr(value)  # another one in every process
    if not parameters and not dataclasses.is_dataclass(value) and not has_address:
        parameters = {"as": " ".join(repr(value).split())}
    return {"object": _name(type(value)), **parameters}


def _name(thing: Any) -> str:
    module = str(getattr(thing, "__module__", None))  # functions written in C have none
    if module.startswith(OWN_PACKAGE):
        module = module.partition(".")[2]
    return str(thing.__qualname__) if module.partition(".")[0] == "parity" else f"{module}.{thing.__qualname__}"


def _is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array of numbers; this module imports neither torch nor numpy."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    return numpy is not None and isinstance(value, numpy.ndarray) and not value.dtype.hasobject


def _array(value: Any) -> dict[str, Any]:
    """Return a tensor or an array as its type, its shape and a hash; one that is trained has no hash, it changes."""
    plain: dict[str, Any] = {"object": _name(type(value)), "dtype": str(value.dtype)}
    try:
        plain["shape"] = list(value.shape)
        if getattr(value, "requires_grad", False):
            return plain
        if hasattr(value, "detach"):
            torch = sys.modules["torch"]
            value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return {**plain, "sha256": hashlib.sha256(value.tobytes()).hexdigest()}
    except RuntimeError:  # without values yet, or of a layout that has no bytes
        return plain


def _parameters(value: Any) -> dict[str, Any]:
    """Return what an object was made with, by name: a dataclass's fields, or attributes, tensors and submodules."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    own = {**getattr(value, "__dict__", {}), **getattr(value, "_modules", {})}
    public = {name: item for name, item in own.items() if not name.startswith("_") and name != "training"}
    return {**public, **_not_in_version_2(value)}


_OF_MODULES = {"_parameters", "_buffers", "_modules"}
"""PyTorch's own private attributes of modules."""


def _not_in_version_2(value: Any) -> dict[str, Any]:
    """Return a module's parameters and buffers, and arguments that an object keeps under their name with a ``_``."""
    if dataclasses.is_dataclass(value) or isinstance(value, type):
        return {}
    torch = sys.modules.get("torch")
    is_module = torch is not None and isinstance(value, torch.nn.Module)
    held = {**value._parameters, **value._buffers} if is_module else {}
    tensors = {name: item for name, item in held.items() if item is not None}
    own = {name: item for name, item in getattr(value, "__dict__", {}).items() if name not in _OF_MODULES}
    private = {f"_{name}" for name in _arguments(type(value))} & own.keys()
    return {**tensors, **{name: own[name] for name in sorted(private)}}


def _arguments(kind: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # one of C
        return ()


def upgraded(plain: Any) -> Any:
    """Return plain settings of version 1 in the form of today."""
    return walk(plain, lambda value: _OUR_NAME.sub("", value, count=1) if _is_ours(value) else value)


def _is_ours(value: Any) -> bool:
    return isinstance(value, str) and _OUR_NAME.match(value) is not None


def completed(old: Any, value: Any, defaults: Any = None, version: int = VERSION) -> Any:
    """Return older plain settings with what objects and mappings have been given since, as they were without it.

    Args:
        old: as ``to_plain`` made them at another time.
        value: the settings of today, objects and all.
        defaults: the values of keys that mappings among them need not have.
        version: of the form of ``old``; what that form did not have is taken for what it is today.
    """
    if isinstance(value, Mapping) and isinstance(old, dict):
        defaults = defaults if isinstance(defaults, Mapping) else {}
        older = {**to_plain(defaults), **old}
        return older | {
            key: completed(older[key], item, defaults.get(key), version) for key, item in value.items() if key in older
        }
    if isinstance(value, list | tuple) and isinstance(old, list) and len(old) == len(value):
        return [completed(*pair, version=version) for pair in zip(old, value, strict=True)]
    if not isinstance(old, dict):
        return old
    if isinstance(value, functools.partial):
        return completed(old, {"args": value.args, **value.keywords}, version=version)
    if old.get("object") != _name(type(value)):
        return old
    if _is_array(value):
        return to_plain(value) if old.get("as") == " ".join(repr(value).split()) else old
    parameters, absent = _parameters(value), _absent(value)
    later = _not_in_version_2(value) if version < 3 else {}
    if parameters and old.get("as") == f"{type(value).__name__}()":  # it had none
        old = {"object": old["object"]}
    if parameters.keys() == later.keys() and later:  # it was its representation
        old = {name: item for name, item in old.items() if name != "as"}
    known = {name: absent[name] for name in parameters.keys() & absent} | later
    return completed({**to_plain(known), **old}, parameters, version=version)


def as_before(value: Any, old: Any) -> Any:
    """Return settings of today in which what older plain settings lack is as it was without it.

    That is so for the dataclass fields that have ``ABSENT`` metadata, where today's value is the field's default.

    Args:
        value: the settings of today, objects and all.
        old: as ``to_plain`` made them at another time, or other settings: those change nothing.
    """
    if isinstance(value, Mapping) and isinstance(old, dict):
        return {key: as_before(item, old.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple) and isinstance(old, list) and len(old) == len(value):
        items = [as_before(*pair) for pair in zip(value, old, strict=True)]
        if all(map(operator.is_, items, value)):
            return value
        return type(value)(*items) if _is_named(value) else type(value)(items)
    if not isinstance(old, dict):
        return value
    if isinstance(value, functools.partial):
        return functools.partial(value.func, *as_before(value.args, old.get("args")), **as_before(value.keywords, old))
    if not dataclasses.is_dataclass(value) or isinstance(value, type) or old.get("object") != _name(type(value)):
        return value
    changed = {}
    for field in dataclasses.fields(value):
        now = getattr(value, field.name)
        if field.init and (before := _field_before(field, now, old)) is not now:
            changed[field.name] = before
    return dataclasses.replace(value, **changed) if changed else value


def _field_before(field: "dataclasses.Field[Any]", value: Any, old: dict[str, Any]) -> Any:
    if ABSENT in field.metadata and value == field.default:
        absent = field.metadata[ABSENT]
        if field.name not in old or old[field.name] == to_plain(absent):  # as written when it was first resumed
            return absent
    return as_before(value, old.get(field.name))


def _absent(value: Any) -> dict[str, Any]:
    """Return an object's parameters where nothing gives them."""
    if dataclasses.is_dataclass(value):
        return {field.name: absent for field in dataclasses.fields(value) for absent in _absent_values(field)}
    try:
        parameters = inspect.signature(type(value)).parameters
    except (TypeError, ValueError):  # one of C
        return {}
    return {name: one.default for name, one in parameters.items() if one.default is not one.empty}


def _absent_values(field: "dataclasses.Field[Any]") -> Iterator[Any]:
    """Yield a field's value where nothing gives it, if it has one."""
    if ABSENT in field.metadata:
        yield field.metadata[ABSENT]
    elif field.default is not dataclasses.MISSING:
        yield field.default
    elif field.default_factory is not dataclasses.MISSING:
        yield field.default_factory()


def changes(old: Any, new: Any, skipped: Container[str] = (), path: str = "") -> Iterator[Change]:
    """Find what differs between two plain settings.

    Args:
        old: what they were.
        new: what they are.
        skipped: paths that are not compared, as 'code.k'.
        path: where ``old`` and ``new`` are themselves.
    """
    if path in skipped:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{key}" if path else key
            yield from changes(old.get(key, "(none)"), new.get(key, "(none)"), skipped, below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        if any(any(changes(*pair)) for pair in zip(old, new, strict=True)):
            yield Change(path, old, new)
    elif old != new and not (_is_nan(old) and _is_nan(new)):
        yield Change(path, old, new)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def differences(old: Any, new: Any) -> Iterator[str]:
    """Name what differs between two plain settings, a line each: 'code.k: 2 -> 3'."""
    return map(str, changes(old, new))
