"""A process that has lost the lock of a folder changes nothing there any more.

A check before each write would leave a gap: a process may be stopped between the two for an hour. So each owner of a
lock has rooms: a subfolder, of a name that is used once, in every folder that it writes into. A file is written in the
room and renamed from there; one that is removed is renamed into it. Whoever takes the lock over removes the rooms of
all others first. From then on a rename of the former owner fails, however late it comes, for the disk itself finds no
such folder.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from parity.errors import ParityError

_ROOM = ".writer."

_HELD: "list[Fence]" = []
"""Those of the locks that this process has."""


class Fence:
    """The rooms of one owner of a lock.

    Args:
        lock: its file; a JSON object whose 'lock' is the owner's mark.
        folders: that it writes into.
        mark: no other owner has had it.
    """

    def __init__(self, lock: Path, folders: Sequence[Path], mark: str) -> None:
        self.lock, self.folders, self._mark = lock, folders, mark
        self.is_lost = False
        """Whether the lock was found to be another's."""

    def room(self, folder: Path) -> Path:
        """Return the room in one of the folders."""
        return folder / f"{_ROOM}{self._mark}"

    def make_rooms(self) -> None:
        """Make them, before the lock is taken: whoever takes it over must find them."""
        for folder in self.folders:
            self.room(folder).mkdir(exist_ok=True)

    def remove_rooms(self) -> None:
        """Remove this owner's rooms, and what is left in them."""
        for folder in self.folders:
            shutil.rmtree(self.room(folder), ignore_errors=True)

    def shut_others_out(self) -> bool:
        """Remove the rooms of all others; return whether this owner, which has taken the lock, still has its own."""
        for folder in self.folders:
            own = self.room(folder)
            for other in list(folder.glob(f"{_ROOM}*")):
                if other != own:
                    with suppress(FileNotFoundError):  # either is gone by now
                        remove_through(own, other)
        return all(self.room(folder).is_dir() for folder in self.folders) and self.owns(read_owner(self.lock))

    def owns(self, owner: dict[str, Any] | None) -> bool:
        """Return whether the content of a lock is this owner's."""
        return owner is not None and owner.get("lock") == self._mark

    def look(self) -> None:
        """Find out whether the lock is still this owner's; a disk that does not answer leaves that open."""
        try:
            content = self.lock.read_text()
        except FileNotFoundError:
            self.is_lost = True
        except (OSError, ValueError):
            return
        else:
            self.is_lost = self.is_lost or not self.owns(parsed_owner(content))

    def check(self) -> None:
        """Make sure that the lock is still this owner's.

        Raises:
            ParityError: it is not.
        """
        self.look()
        if self.is_lost:
            raise ParityError(self._sentence())

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Check before this block, in which something is changed, and report what fails in it for want of a room.

        Raises:
            ParityError: the lock is lost.
        """
        self.check()
        try:
            yield
        except FileNotFoundError as error:
            if all(self.room(folder).is_dir() for folder in self.folders):
                raise
            self.is_lost = True
            raise ParityError(self._sentence()) from error

    def _sentence(self) -> str:
        owner = read_owner(self.lock)
        if owner is not None and not self.owns(owner):
            how = f"is now that of another process, {describe(owner)}"
        else:
            how = "was replaced" if self.lock.exists() else "was removed"
        return (
            f"this process has lost the lock of {self.lock.parent}, for {self.lock.name} {how}: it ends here, and what "
            "it had not saved is left out; the same command resumes."
        )

    def __enter__(self) -> "Fence":
        self.is_lost = False
        _HELD.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self in _HELD:
            _HELD.remove(self)


def fence_of(folder: Path) -> tuple[Fence, Path] | None:
    """Return the fence of a lock that this process has, and its room in a folder; None where it has none for that."""
    real = os.path.realpath(folder) if _HELD else ""
    for fence in _HELD:
        for fenced in fence.folders:
            if os.path.realpath(fenced) == real:
                return fence, fence.room(fenced)
    return None


def is_lost(folder: Path | None) -> bool:
    """Return whether this process had the lock of a folder, and has found that it is another's by now."""
    found = None if folder is None else fence_of(folder)
    return found is not None and found[0].is_lost


def check_held(folder: Path) -> None:
    """Make sure that a lock which this process has taken is still its own.

    Raises:
        ParityError: it has lost it.
    """
    if (found := fence_of(folder)) is not None:
        found[0].check()


def remove_through(room: Path, path: Path) -> None:
    """Remove a file, a link or a folder by way of a room.

    Raises:
        FileNotFoundError: either is not there.
    """
    doomed = room / f"removed.{path.name}"
    path.rename(doomed)
    if doomed.is_dir() and not doomed.is_symlink():
        shutil.rmtree(doomed, ignore_errors=True)  # on NFS, a file that is open somewhere stays until it is closed
    else:
        doomed.unlink(missing_ok=True)


def read_owner(lock: Path) -> dict[str, Any] | None:
    """Return the content of a lock; None where there is none that can be read."""
    if not lock.is_file():  # a pipe would be waited for
        return None
    try:
        return parsed_owner(lock.read_text())
    except (OSError, ValueError):
        return None


def parsed_owner(content: str) -> dict[str, Any] | None:
    """Return what a lock's text is; None where it is not an object."""
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return owner if isinstance(owner, dict) else None


def describe(owner: dict[str, Any] | None) -> str:
    """Return in words who has a lock."""
    if owner is None:
        return "which has not written its name yet"
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"on host {owner.get('host')}, pid {owner.get('pid')}{job}"
