"""Files of data sets that have a folder for each class: one listing of images and of clips."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from parity.errors import ParityError

log = logging.getLogger(__name__)

_NAMED = 3  # suffixes that a message names


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


def files_of_classes(folder: Path, names: Sequence[str], suffixes: Sequence[str], kind: str) -> list[list[bytes]]:
    """List <folder>/<name>/**/* with one of these suffixes in any case, hidden ones left out. No file is looked into.

    How many others are left out is logged.

    Args:
        folder: of the classes' folders.
        names: of the classes.
        suffixes: in lower case.
        kind: what the files are, for messages: "image".

    Returns:
        For each class paths relative to the folder, sorted by their bytes.

    Raises:
        ParityError: a class has none, a folder cannot be listed, or one of them is not a file.
    """
    endings = tuple(os.fsencode(suffix) for suffix in suffixes)
    left_out: Counter[str] = Counter()
    listed = [_files_of_class(folder, name, endings, left_out) for name in names]
    for name, paths in zip(names, listed, strict=True):
        if not paths:
            raise ParityError(f"{folder / name} holds no {kind} ({', '.join(suffixes)}): put some there.")
    if loose := _loose(folder, endings):
        log.warning("%s in %s left out, in no folder of a class: %s", _files(len(loose)), folder, min(loose))
    if left_out:
        found = ", ".join(f"{number} of {suffix or 'no suffix'}" for suffix, number in left_out.most_common(_NAMED))
        log.warning(
            "%s in %s left out, without the suffix of any %s: %s", _files(left_out.total()), folder, kind, found
        )
    return listed


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _loose(folder: Path, endings: tuple[bytes, ...]) -> list[str]:
    """Return the names of files of this kind that lie beside the classes' folders."""
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            found = [entry.name for entry in entries if entry.name.lower().endswith(endings) and entry.is_file()]
    except OSError as error:
        raise _cannot_list(folder, error) from error
    return [os.fsdecode(name) for name in found if not name.startswith(b".")]


def _files_of_class(folder: Path, name: str, endings: tuple[bytes, ...], left_out: Counter[str]) -> list[bytes]:
    try:
        return sorted(_paths(os.fsencode(folder / name), os.fsencode(name) + b"/", endings, left_out))
    except OSError as error:
        raise _cannot_list(folder / name, error) from error


def _paths(folder: bytes, prefix: bytes, endings: tuple[bytes, ...], left_out: Counter[str]) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir():  # known from the listing itself: only links are looked up
                if entry.is_symlink() and (os.path.realpath(folder) + b"/").startswith(
                    os.path.realpath(entry.path) + b"/"
                ):
                    raise ParityError(f"{os.fsdecode(entry.path)} is a link to a folder that it lies in: remove it.")
                yield from _paths(entry.path, prefix + entry.name + b"/", endings, left_out)
            elif not entry.name.lower().endswith(endings):
                left_out[os.fsdecode(os.path.splitext(entry.name)[1].lower())] += 1
            elif not entry.is_file():  # who reads a pipe waits for ever
                what = "a link to nothing" if entry.is_symlink() and not os.path.exists(entry.path) else "not a file"
                raise ParityError(f"{os.fsdecode(entry.path)} is {what}: remove it.")
            else:
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
