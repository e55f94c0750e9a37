"""Where things lie on this machine: environment variables, read once, at import, and paths as users write them.

- ``DATA_ROOT``: folder of the data sets (default ``./data``)
- ``IMAGENET_PATH``: folder of ImageNet, if there is one
- ``PARITY_EXPERIMENTS``: folders with a user's own experiments, separated as in ``PATH``

One that is empty is as one that is not set.
"""

import errno
import os
import unicodedata
from pathlib import Path

from parity.errors import ParityError

_UNPRINTABLE = ("Cc", "Zl", "Zp", "Cs")  # Unicode's; Python reads bytes that are not UTF-8 as the last
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of Linux and its file systems


def user_path(path: str | Path) -> Path:
    """Return a path as a user has written it, with ``~`` expanded.

    Raises:
        ParityError: no file can have this path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ParityError(f"a path is a text or a Path, and not {path!r:.60}.")
    if not os.fspath(path):
        raise ParityError("a path cannot be empty: write '.' for the folder that this command runs in.")
    expanded = Path(os.path.expanduser(path))
    if expanded.parts and expanded.parts[0].startswith("~"):
        name = expanded.parts[0][1:]
        unknown = f"there is no user '{name}' whose home folder" if name else "HOME is not set, and no home folder"
        raise ParityError(f"{unknown} the path '{str(path)[:60]}' could begin with: write the whole path.")
    for part in expanded.parts:
        check_name(part)
    if len(os.fsencode(expanded)) > _LONGEST_PATH:
        raise ParityError(f"a path has at most {_LONGEST_PATH} bytes, and {str(path)[:60]}... is longer.")
    try:
        os.stat(expanded)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ParityError(f"{expanded} is a circle of symbolic links: name another path.") from error
    return expanded


def check_name(name: str) -> None:
    """Make sure that a file or a folder can have this name.

    Raises:
        ParityError: it cannot.
    """
    check_printable(name, "a name of a file")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise ParityError(f"a name of a file has at most {_LONGEST_NAME} bytes, and {name[:60]}... is longer.")


def data_path(*parts: str) -> Path:
    """Return a path under ``DATA_ROOT``.

    Raises:
        ParityError: no folder can have the path that it is set to.
    """
    return _of_environment("DATA_ROOT", DATA_ROOT).joinpath(*parts)


def check_printable(text: str, what: str) -> None:
    """Make sure that a text has no control characters, line breaks among them, and can be written as UTF-8.

    Raises:
        ParityError: it has one, or bytes that are not text: not every file, and not every library, can hold those.
    """
    found = next((character for character in text if unicodedata.category(character) in _UNPRINTABLE), None)
    if found is not None and unicodedata.category(found) == "Cs":
        raise ParityError(f"{what} is a text in UTF-8, which {text!r:.80} is not.")
    if found is not None:
        raise ParityError(f"{what} cannot have a control character, as {text!r:.80} has ({found!r}).")


def imagenet_path() -> Path | None:
    """Return the folder of ImageNet; None where it is not set.

    Raises:
        ParityError: no folder can have the path that it is set to.
    """
    return None if IMAGENET_PATH is None else _of_environment("IMAGENET_PATH", IMAGENET_PATH)


def _of_environment(variable: str, path: Path) -> Path:
    try:
        return user_path(path)
    except ParityError as error:
        raise ParityError(f"{variable}: {error}") from error


DATA_ROOT = Path(os.path.expanduser(os.environ.get("DATA_ROOT") or "data"))
IMAGENET_PATH = Path(os.environ["IMAGENET_PATH"]) if os.environ.get("IMAGENET_PATH") else None
EXPERIMENTS_PATHS = tuple(
    Path(folder) for folder in os.environ.get("PARITY_EXPERIMENTS", "").split(os.pathsep) if folder
)
