"""Files that appear whole or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from parity.errors import DamagedFileError, ParityError, in_one_line
from parity.schema import Schema, check_fields
from parity.storage.fences import fence_of, remove_through


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; what was written there gets its real name when the block ends.

    It is flushed to the disk first. When the block raises, nothing is left and an older file stays as it was. The
    folder is made if it is not there. Where this process has the folder's lock, the temporary name is in its room
    there: once it has lost the lock, nothing gets a real name any more.

    Raises:
        ParityError: there is no space left, the folder cannot be written to, or a device, a pipe or a folder is there;
            or this process has lost the folder's lock.
    """
    if path.exists() and not path.is_file():  # else a device such as /dev/null would be replaced by a file
        raise ParityError(f"{path} cannot be written: it is not a file. Name another one.")
    if (fenced := fence_of(path.parent)) is None:
        temporary = temporary_of(path)
        path_is_ours: AbstractContextManager[None] = nullcontext()
    else:
        temporary, path_is_ours = fenced[1] / path.name, fenced[0].watched()
    with disk_errors(path), path_is_ours:
        if fenced is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        # A killed process of the same number may have left it as a second name of a file that counts.
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            with _still_there(temporary, path):
                flush(temporary)
                temporary.replace(path)
            with disk_errors(path, renamed=True):
                flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _still_there(temporary: Path, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if path.parent.is_dir() and fence_of(path.parent) is None and not temporary.exists():
            raise ParityError(
                f"{path} cannot be written: another process has removed {temporary.name}; run the command again."
            ) from error
        raise


def temporary_of(path: Path) -> Path:
    """Return the name, in the same folder, that this process writes a file under until it is whole."""
    end = f".{socket.gethostname()}.{os.getpid()}.tmp"
    name = path.name
    if len(os.fsencode(f".{name}{end}")) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return path.with_name(f".{name}{end}")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there.

    Raises:
        ParityError: it cannot be removed, or this process has lost the lock of the folder that it is in.
    """
    fenced = fence_of(path.parent)
    with disk_errors(path), nullcontext() if fenced is None else fenced[0].watched():
        if not os.path.lexists(path):
            return
        if fenced is not None:
            remove_through(fenced[1], path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def rename(path: Path, name: str) -> None:
    """Give a file another name in its folder.

    Raises:
        ParityError: that cannot be, or this process has lost the folder's lock.
    """
    fenced = fence_of(path.parent)
    with disk_errors(path), nullcontext() if fenced is None else fenced[0].watched():
        if fenced is not None:
            path = path.rename(fenced[1] / name)  # fails once the lock is lost
            path.rename(fenced[1].parent / name)
        else:
            path.rename(path.with_name(name))


def flush(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where its file system can do that."""
    try:
        flush(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # file systems that cannot flush folders
            raise


_LONGEST_NAME = 255  # bytes, of the file systems of Linux

_TEMPORARY = re.compile(r"(?P<start>\..+)\.(?P<pid>[0-9]{1,10})\.tmp", re.DOTALL)
_OF_LOCKS = ".run.lock."
_LEFT_AFTER = 86400.0
"""Seconds."""

_MOST_LINKS = 40  # of Linux, one after the other

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_WRITE = (*DISK_IS_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_NOBODY_READS = (errno.ENXIO, errno.EPIPE)
_NO_FILES = (errno.ENOENT, errno.EINVAL, errno.ENOTSUP)
"""What file systems that are not of files, /proc among them, raise where one is made."""


@contextmanager
def disk_errors(path: Path, kinds: Sequence[int] = _CANNOT_WRITE, renamed: bool = False) -> Iterator[None]:
    """Within this block, what the disk refuses becomes one sentence.

    Args:
        path: what is being written.
        kinds: numbers of the errors that do.
        renamed: whether what was written has its name already, which only is to be flushed.

    Raises:
        ParityError: there is no space left, or it cannot be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in kinds:
            raise
        reason = os.strerror(error.errno).lower()
        left = "What was there before is as it was"
        if renamed:
            left = "The new one is there, and may be lost if the machine stops"
        raise ParityError(
            f"{path} cannot be written: {reason}. {left}; put the disk right, and the same command resumes."
        ) from error


def check_writable(folder: Path) -> None:
    """Make sure that files can be written in a folder, or, where it is still to be made, that it can be.

    Raises:
        ParityError: they cannot.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent))
    if not existing.is_dir():
        what = "is a file" if existing.exists() else "is a link to nothing"
        raise ParityError(f"{folder} cannot be a folder: {existing} {what}.")
    with disk_errors(folder, (*_CANNOT_WRITE, *_NO_FILES)), tempfile.TemporaryFile(dir=existing) as probe:
        probe.write(b"parity")


def remove_temporaries(folder: Path) -> None:
    """Remove the files that processes which were killed while writing have left in a folder.

    Only names of ``temporary_of`` and of a run's lock are: an evaluation may be writing there, and so may users.
    """
    for temporary in folder.glob(".*.tmp"):
        if temporary.is_file() and _is_left(temporary):
            temporary.unlink(missing_ok=True)


def _is_left(temporary: Path) -> bool:
    """Return whether nobody writes this temporary file any more.

    A process of another host cannot be asked after: what it has not touched for a day is left.
    """
    if temporary.name.startswith(_OF_LOCKS):
        return True
    if (named := _TEMPORARY.fullmatch(temporary.name)) is None:
        return False
    if named["start"].endswith(f".{socket.gethostname()}") and not _is_alive(int(named["pid"])):
        return True
    try:
        return time.time() - temporary.stat().st_mtime > _LEFT_AFTER
    except OSError:  # it is gone by now
        return False


def _is_alive(pid: int) -> bool:
    """Return whether a process of this host lives."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write plain values as a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_output(path: Path) -> Path:
    """Return where a result goes that a user asked for by its path, with links followed.

    Raises:
        ParityError: it is a folder, or cannot be written to.
    """
    if _own_descriptor(path) is not None:
        return path
    path = path.resolve()  # else a link would be replaced
    if path.is_dir() or not path.parent.is_dir():
        raise ParityError(f"{path} is a folder, or its folder does not exist: name a file.")
    if not path.exists() or path.is_file():
        check_writable(path.parent)
    elif path.is_fifo():  # not opened here: who reads from it would take that for the end
        if not os.access(path, os.W_OK):
            raise ParityError(f"{path} cannot be written to: name another file.")
    else:
        try:
            os.close(_open_now(path))
        except OSError as error:
            raise ParityError(f"{path} cannot be written to ({error.strerror}): name another file.") from error
    return path


def _open_now(path: Path) -> int:
    """Open a device or a pipe to write to; one whose other end nobody has opened is not waited for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return descriptor


def _own_descriptor(path: Path) -> int | None:
    """Return the number of what this process has open by a path, as 1 by /dev/stdout; None where it is another path."""
    for _ in range(_MOST_LINKS):
        if os.path.realpath(path.parent) == f"/proc/{os.getpid()}/fd" and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def write_output(path: Path, content: Any) -> None:
    """Write plain values as JSON to a path of ``check_output``: a file whole or not at all, anything else as it is.

    Raises:
        ParityError: there is no space left, or it cannot be written to.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None or (path.exists() and not path.is_file()):
        with disk_errors(path, (*_CANNOT_WRITE, *_NOBODY_READS)):
            # A file that is open is not opened again: what is printed there would be written over.
            descriptor = _open_now(path) if descriptor is None else os.dup(descriptor)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=2) + "\n")
    else:
        write_json(path, content)


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        ParityError: it is not there, is a folder, a pipe or a device, or cannot be read.
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        what = "is not a file" if os.path.lexists(path) else "is not there"
        raise ParityError(f"{path} cannot be read: it {what}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParityError(f"{path} cannot be read: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """Read a text file, as ``read_bytes`` does.

    Raises:
        ParityError: also where it holds other bytes than text.
    """
    return _text(read_bytes(path), path)


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is damaged: it holds bytes that are not text.") from error


def read_json(path: Path, of: str, schema: Schema | None = None) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        of: what has such a file, for the message.
        schema: fields that it has.

    Raises:
        ParityError: it is missing or damaged.
    """
    if not os.path.lexists(path):
        raise ParityError(f"{path.parent} is not {of}: there is no {path.name} in it.")
    content = parse_json(read_bytes(path), path)
    check_fields(content, schema or {}, str(path))
    return content


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        content: its bytes.
        path: where they come from.

    Raises:
        DamagedFileError: it holds none, or one that has a key twice.
    """
    try:
        parsed = json.loads(_text(content, path), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged: {in_one_line(error):.200}.") from error
    if not isinstance(parsed, dict):
        raise DamagedFileError(f"{path} is damaged: it holds no JSON object.")
    return parsed


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"it has a key twice, among {', '.join(fields)}")
    return fields
