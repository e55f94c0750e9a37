"""Imports files of users' folders: ``<folder>/Digits/new/model.py`` is ``Digits.new.model``.

Folders are appended to ``sys.path``. Where two hold files of the same name, those of the second become modules of a
package of its own. Absolute imports find their own folder's modules first.
"""

import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from parity.errors import ParityError, in_one_line
from parity.plain import OWN_PACKAGE

_folders: list[Path] = []


def add_to_path(folder: Path) -> None:
    """Let the modules of a user's folder be imported by name."""
    importlib.invalidate_caches()  # a file may be newer than what Python has listed
    if folder not in _folders:
        _folders.append(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_file(folder: Path, file: Path) -> ModuleType:
    """Import a file of a user's folder, once.

    Raises:
        ParityError: it cannot be imported; the message names file and line.
    """
    name = ".".join(file.relative_to(folder).with_suffix("").parts)
    try:
        find = importlib.import_module if _is_file(name, file) else functools.partial(_import_below_own, folder)
        with _first(folder):
            return find(name)
    except Exception as error:  # whatever a user's file leads to
        raise ParityError(f"{file} cannot be imported ({_reason(error, folder, file)}).") from error


def _is_file(name: str, file: Path) -> bool:
    """Return whether a module of this name is this file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # its parent is another package, or has no spec
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file.resolve()


def _import_below_own(folder: Path, name: str) -> ModuleType:
    root = OWN_PACKAGE + hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    if root not in sys.modules:
        sys.modules[root] = ModuleType(root)
        sys.modules[root].__path__ = [str(folder)]
    if (known := sys.modules.get(f"{root}.{name}")) is not None:
        return known
    return importlib.import_module(f"{root}.{name}")


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    """Let absolute imports find this folder's modules before those of users' other folders."""
    hidden = {name: other for name, other in sys.modules.items() if _has(folder, name) and _is_of_others(other, folder)}
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(min(sys.path.index(str(other)) for other in _folders if str(other) in sys.path), str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.update(hidden)


def _has(folder: Path, name: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _is_of_others(module: ModuleType, folder: Path) -> bool:
    """Return whether a module is a file of another of users' folders; packages without a file are of all of them."""
    file = getattr(module, "__file__", None)
    others = [other for other in _folders if other != folder]
    return file is not None and not Path(file).is_relative_to(folder) and any(map(Path(file).is_relative_to, others))


def _reason(error: Exception, folder: Path, file: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        where, line, message = Path(error.filename), error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        where, line = (Path(own[-1].filename), own[-1].lineno) if own else (file, None)
        message = in_one_line(error)
    found_at = f"line {line}" if where == file else f"{where}, line {line}"
    return f"{found_at}: {type(error).__name__}: {message}" if line else f"{type(error).__name__}: {message}"
