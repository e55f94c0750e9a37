"""One process at a time writes into a run's folder."""

import contextlib
import fcntl
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Self

from parity.errors import ParityError
from parity.storage.files import disk_errors

log = logging.getLogger(__name__)

NAME = "run.lock"

_BEAT = 10.0
_DEAD_AFTER = 60.0
"""Seconds between heartbeats, and after how many without one a process on another host counts as dead."""

_OF_THIS_PROCESS: set[str] = set()
"""Those that it holds or asks for."""


class RunLock:
    """A file in a run's folder that names the process that writes there; a context manager.

    Its owner touches it every ten seconds. It does not block where its owner is gone: a process of this host that does
    not live any more, one of another host without a heartbeat for a minute, or the same SLURM job, requeued since.

    Args:
        folder: of the run; it is made if it is not there, and removed in the end if nothing else came into it.
        wait: for a living owner to end, instead of raising.

    Raises:
        ParityError: (on entering) a living process has it; its host, pid and job are in the message. Or the folder
            cannot be written to.
    """

    def __init__(self, folder: Path, wait: bool = False) -> None:
        self.path = folder / NAME
        self.wait = wait
        self._me = _this_process() | {"lock": uuid.uuid4().hex}
        self._name: str = self._me["lock"]
        self._made_folders: list[Path] = []
        self._released = threading.Event()

    def __enter__(self) -> Self:
        _OF_THIS_PROCESS.add(self._name)
        try:
            with disk_errors(self.path):
                self._take()
        except BaseException:
            self.__exit__()
            raise
        self._released.clear()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        _OF_THIS_PROCESS.discard(self._name)
        with contextlib.suppress(OSError):  # a disk that has become read-only: the lock of a dead process is left there
            if self._is_mine():
                self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is in use
            for folder in self._made_folders:
                folder.rmdir()

    def _is_mine(self) -> bool:
        return _read(self.path) == self._me

    def _take(self) -> None:
        while not self._taken():
            owner = _read(self.path)
            if not _is_alive(owner, self.path):
                self._clear_away(owner)
            elif self.wait:
                time.sleep(1.0)
            else:
                raise ParityError(
                    f"{self.path.parent} is being written by another process, {_describe(owner)}: wait for it, stop "
                    "it, or give this run another folder (--run_name)."
                )

    def _taken(self) -> bool:
        # A link appears with its content or not at all, and never instead of another's.
        mine = _own_name(self.path, "new")
        self._make_folder()
        try:
            mine.write_text(json.dumps(self._me))
            os.link(mine, self.path)
        except FileExistsError:
            return self._is_mine()  # NFS may ask a second time when the answer to the first was lost
        except FileNotFoundError:  # another process has just tidied this folder up, or removed it
            return False
        except OSError:  # a file system without links, or one that is full, and raises that again
            return self._created()
        finally:
            mine.unlink(missing_ok=True)
        return True

    def _make_folder(self) -> None:
        folder = self.path.parent
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        try:
            with contextlib.suppress(FileNotFoundError):  # another process removes it, or a part of it, just now
                folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ParityError(f"{folder} cannot be a folder: there is a file, or a link to nothing.") from error
        self._made_folders = missing or self._made_folders

    def _created(self) -> bool:
        try:
            file = self.path.open("x")
        except FileExistsError:
            return False
        try:
            with file:
                json.dump(self._me, file)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _clear_away(self, owner: dict[str, Any] | None) -> None:
        # Several processes may find the lock of a dead one. One by one they look again, for it may be another's by now.
        guard = self.path.with_name(f".{NAME}.guard.tmp")
        descriptor = None
        try:
            descriptor = _locked(guard)
        except FileNotFoundError:  # the folder is gone, and the lock with it
            return
        except OSError:  # a file system without such locks
            guard.unlink(missing_ok=True)
        try:
            if _read(self.path) == owner:
                self.path.unlink(missing_ok=True)
        finally:
            if descriptor is not None:
                guard.unlink(missing_ok=True)
                os.close(descriptor)

    def _beat(self) -> None:
        while not self._released.wait(_BEAT):
            with contextlib.suppress(OSError):  # the next one may succeed
                if self._is_mine():
                    os.utime(self.path)


def _own_name(path: Path, what: str) -> Path:
    return path.with_name(f".{NAME}.{what}.{socket.gethostname()}.{os.getpid()}.tmp")


def _locked(path: Path) -> int:
    """Make a file and lock it as soon as no other process has it locked; the lock ends with the process."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):  # the one before has removed it
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "processes": _process_table(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restarts": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _process_table() -> str | None:
    """Distinguish machines and containers of the same host name; None where the system does not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    """Distinguish a process from a later one of the same number; None where the system does not."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "it has ended" if state in "ZX" else fields[18]
    except (OSError, ValueError, IndexError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _is_alive(owner: dict[str, Any] | None, path: Path) -> bool:
    if owner is None:  # gone by now, or just being written
        return _age(path) < _DEAD_AFTER
    me = _this_process()
    if owner.get("job") is not None and owner["job"] == me["job"] and owner.get("restarts") != me["restarts"]:
        return False
    if all(owner.get(name) == me[name] for name in ("host", "processes")):
        if (owner.get("pid"), owner.get("started")) == (me["pid"], me["started"]):
            return owner.get("lock") in _OF_THIS_PROCESS
        return _lives(owner.get("pid"), owner.get("started"))
    return _age(path) < _DEAD_AFTER


def _lives(pid: object, started: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        pass
    except (OSError, OverflowError):
        return False
    return _start_time(pid) in (None, started)


def _age(path: Path) -> float:
    """Return seconds since the last heartbeat, by the clock of the disk that has the file: hosts' clocks differ.

    A file that is not there has none; where the disk cannot be asked, the last one may have been just now.
    """
    probe = _own_name(path, "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0 if path.exists() else math.inf
    finally:
        probe.unlink(missing_ok=True)


def _describe(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return f"which has not written its name yet (see {NAME} there)"
    job = f", SLURM job {owner['job']}" if owner.get("job") else ""
    return f"on host {owner.get('host')}, pid {owner.get('pid')}{job}"
