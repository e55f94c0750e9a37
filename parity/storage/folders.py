"""Folders that appear whole or not at all, and replace an older one at once."""

import ctypes
import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parity.storage.files import disk_errors, flush, flush_folder

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside this one; it gets its real name when the block ends.

    Its files are flushed to the disk first. When the block raises, nothing is left and an older folder stays as it was;
    else it is replaced. What processes that were killed meanwhile have left is removed first.

    Raises:
        ParityError: there is no space left, or the folder cannot be written to.
    """
    folder = folder.resolve()  # else a link would be replaced
    temporary = _beside(folder, "partial")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        put_back(folder)
        for left in (*_left(folder, "partial"), *_left(folder, "older")):
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    flush_folder(path)
                elif path.exists():  # else a link to nothing
                    flush(path)
            flush_folder(temporary)
            _replace(folder, temporary)
            with disk_errors(folder, renamed=True):
                flush_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def put_back(folder: Path) -> None:
    """Give a folder that is not there its name back, if a process was killed in the moment in which it replaced it."""
    if not folder.exists():
        for older in _left(folder, "older"):
            with suppress(OSError):  # another process was faster, or nothing can be written here
                older.rename(folder)


def _replace(folder: Path, new: Path) -> None:
    if not folder.exists():
        new.rename(folder)
    elif not _exchanged(folder, new):  # a file system such as NFS: for a moment neither is there
        older = _beside(folder, "older")
        folder.rename(older)
        try:
            new.rename(folder)
        except BaseException:
            older.rename(folder)
            raise
        shutil.rmtree(older, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders swap their names at once; return whether system and file system can do that."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    return renameat2 is not None and not renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{what}")


def _left(folder: Path, what: str) -> list[Path]:
    """Return what processes of this host that do not live any more have left beside a folder."""
    start = f".{folder.name}.{socket.gethostname()}."
    found = folder.parent.glob(f"{glob.escape(start)}*.{what}")
    return [path for path in found if not _is_others(path.name.removeprefix(start).removesuffix(f".{what}"))]


def _is_others(number: str) -> bool:
    """Return whether this is the number of another process that lives, or not of a process at all."""
    try:
        pid = int(number)
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (ValueError, OSError):
        return True
    return pid != os.getpid()
