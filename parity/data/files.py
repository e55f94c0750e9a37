"""Files of data sets that have a folder for each class: one listing of images and of clips."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from parity.errors import ParityError


def subfolders(folder: Path, hidden: str = ".") -> list[str]:
    """Return the names of a folder's folders, sorted, without those that begin with a character of ``hidden``.

    Raises:
        ParityError: there is no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name[0] not in hidden and entry.is_dir())
    except OSError as error:
        raise _cannot_list(folder, error) from error


def files_of_class(folder: Path, name: str, suffixes: Sequence[str], kind: str) -> list[bytes]:
    """List <folder>/<name>/**/* with one of these suffixes in any case, hidden ones left out. No file is looked into.

    Args:
        folder: of the classes' folders.
        name: of the class.
        suffixes: in lower case.
        kind: what the files are, for messages: "image".

    Returns:
        Paths relative to the folder, sorted by their bytes.

    Raises:
        ParityError: there are none, or a folder cannot be listed.
    """
    endings = tuple(os.fsencode(suffix) for suffix in suffixes)
    try:
        paths = sorted(_paths(os.fsencode(folder / name), os.fsencode(name) + b"/", endings))
    except OSError as error:
        raise _cannot_list(folder / name, error) from error
    if not paths:
        raise ParityError(f"{folder / name} holds no {kind} ({', '.join(suffixes)}): put some there.")
    return paths


def _paths(folder: bytes, prefix: bytes, endings: tuple[bytes, ...]) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir():  # known from the listing itself: only links are looked up
                if entry.is_symlink() and (os.path.realpath(folder) + b"/").startswith(
                    os.path.realpath(entry.path) + b"/"
                ):
                    raise ParityError(f"{os.fsdecode(entry.path)} is a link to a folder that it lies in: remove it.")
                yield from _paths(entry.path, prefix + entry.name + b"/", endings)
            elif entry.name.lower().endswith(endings):
                yield prefix + entry.name


def read_lines(path: Path, remedy: str) -> str:
    """Return the text of a list in UTF-8, with or without a byte order mark; any line ends become newlines.

    Args:
        path: of the list.
        remedy: the end of a sentence.

    Raises:
        ParityError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ParityError(f"{path} cannot be read ({error}): {remedy}.") from error


def _cannot_list(folder: Path, error: OSError) -> ParityError:
    return ParityError(f"{folder} cannot be listed: {error.strerror or error}.")
