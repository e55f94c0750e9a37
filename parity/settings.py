"""Where things lie on this machine: environment variables, read once, at import, and paths as users write them.

- ``DATA_ROOT``: folder of the data sets (default ``./data``)
- ``IMAGENET_PATH``: folder of ImageNet, if there is one
- ``PARITY_EXPERIMENTS``: folders with a user's own experiments, separated as in ``PATH``
"""

import os
import unicodedata
from pathlib import Path

from parity.errors import ParityError

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes, of Linux and its file systems


def user_path(path: str | Path) -> Path:
    """Return a path as a user has written it, with ``~`` expanded.

    Raises:
        ParityError: no file can have this path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ParityError(f"a path is a text or a Path, and not {path!r:.60}.")
    expanded = _expanded(path)
    if expanded.parts and expanded.parts[0].startswith("~"):
        raise ParityError(f"'{path}' begins with an unknown home folder, {expanded.parts[0]}.")
    for part in expanded.parts:
        check_name(part)
    if len(os.fsencode(expanded)) > _LONGEST_PATH:
        raise ParityError(f"a path has at most {_LONGEST_PATH} bytes, and {str(path)[:60]}... is longer.")
    return expanded


def check_name(name: str) -> None:
    """Make sure that a file or a folder can have this name.

    Raises:
        ParityError: it cannot.
    """
    check_printable(name, "a name of a file")
    if len(os.fsencode(name)) > _LONGEST_NAME:
        raise ParityError(f"a name of a file has at most {_LONGEST_NAME} bytes, and {name[:60]}... is longer.")


def check_printable(text: str, what: str) -> None:
    """Make sure that a text has no control characters, line breaks among them.

    Raises:
        ParityError: it has one.
    """
    found = next((character for character in text if unicodedata.category(character) in ("Cc", "Zl", "Zp")), None)
    if found is not None:
        raise ParityError(f"{what} cannot have a control character, as {text!r:.80} has ({found!r}).")


def _expanded(path: str | Path) -> Path:
    return Path(os.path.expanduser(path))


DATA_ROOT = _expanded(os.environ.get("DATA_ROOT", "data"))
IMAGENET_PATH = _expanded(os.environ["IMAGENET_PATH"]) if "IMAGENET_PATH" in os.environ else None
EXPERIMENTS_PATHS = tuple(
    _expanded(folder) for folder in os.environ.get("PARITY_EXPERIMENTS", "").split(os.pathsep) if folder
)
