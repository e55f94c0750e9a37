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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from parity.errors import ParityError
from parity.storage.fences import Fence, describe, read_owner, remove_through
from parity.storage.files import disk_errors

log = logging.getLogger(__name__)

NAME = "run.lock"

PERIOD = "PARITY_LOCK_SECONDS"
"""Environment variable: after how many seconds without a heartbeat a process on another host counts as dead."""

_PERIOD = 60.0
_LONGEST_PERIOD = 86400.0
_BEATS = 6
"""In a period."""

_OF_THIS_PROCESS: set[str] = set()
"""Those that it holds or asks for."""


class RunLock:
    """A file in a run's folder that names the process that writes there; a context manager.

    Its owner touches it six times in a period, a minute by default. It does not block where its owner is gone: a
    process of this host that does not live any more, one of another host without a heartbeat for a period, or the same
    SLURM job, requeued since. An owner that was only stopped, and continues, has lost it then: what it writes by
    ``written_whole`` and removes by ``remove`` changes nothing any more (``parity.storage.fences``).

    Args:
        folder: of the run; it is made if it is not there, and removed in the end if nothing else came into it.
        wait: for a living owner to end, instead of raising.
        also: other folders that its owner writes into, likewise.
        named_by: what a user names another folder by.

    Raises:
        ParityError: (on entering) a living process has it; its host, pid and job are in the message. Or the folder
            cannot be written to.
    """

    def __init__(
        self, folder: Path, wait: bool = False, also: Sequence[Path] = (), named_by: str = "--run_name"
    ) -> None:
        self.path = folder / NAME
        self.wait, self.named_by, self.period = wait, named_by, _period()
        self._me = _this_process() | {"lock": uuid.uuid4().hex, "period": self.period}
        self._name: str = self._me["lock"]
        self.fence = Fence(self.path, list(dict.fromkeys((folder, *also))), self._name)
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
        self.fence.__enter__()
        self._released.clear()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        self.fence.__exit__()
        with contextlib.suppress(OSError):  # a disk that has become read-only: the lock of a dead process is left there
            self._release()
        self.fence.remove_rooms()
        _OF_THIS_PROCESS.discard(self._name)
        with contextlib.suppress(OSError):  # it is in use
            for folder in self._made_folders:
                folder.rmdir()

    def _release(self) -> None:
        if self.fence.owns(read_owner(self.path)):
            remove_through(self.fence.room(self.path.parent), self.path)

    def _take(self) -> None:
        while not self._taken():
            owner = read_owner(self.path)
            if not _is_alive(owner, self.path):
                self._clear_away(owner)
            elif self.wait:
                time.sleep(1.0)
            else:
                raise ParityError(
                    f"{self.path.parent} is being written by another process, {describe(owner)}: wait for it, stop "
                    f"it, or give this run another folder ({self.named_by}); {self.path} may be removed once no such "
                    "process lives."
                )

    def _taken(self) -> bool:
        """Take the lock if nobody has it, and shut out whoever had it; return whether it is this process's."""
        self._make_folders()
        # A link appears with its content or not at all, and never instead of another's.
        mine = self.fence.room(self.path.parent) / NAME
        try:
            self.fence.make_rooms()
            mine.write_text(json.dumps(self._me))
            os.link(mine, self.path)
        except FileExistsError:  # NFS may ask a second time when the answer to the first was lost
            if not self.fence.owns(read_owner(self.path)):
                return False
        except FileNotFoundError:  # another process has just tidied this folder up, or removed it
            return False
        except OSError:  # a file system without links, or one that is full, and raises that again
            if not self._created():
                return False
        finally:
            with contextlib.suppress(OSError):
                mine.unlink()
        if self.fence.shut_others_out():
            return True
        # The one before, which had not ended yet, has removed the rooms: nothing is written without them.
        if self.fence.owns(read_owner(self.path)):
            self.path.unlink(missing_ok=True)
        return False

    def _make_folders(self) -> None:
        missing = []
        for folder in self.fence.folders:
            missing += [parent for parent in (folder, *folder.parents) if not parent.exists()]
            try:
                with contextlib.suppress(FileNotFoundError):  # another process removes it, or a part of it, just now
                    folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise ParityError(f"{folder} cannot be a folder: there is a file, or a link to nothing.") from error
        made = sorted(set(missing), key=lambda folder: -len(folder.parts))
        self._made_folders = made or self._made_folders

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
            descriptor = _locked(guard, self.period)
        except FileNotFoundError:  # the folder is gone, and the lock with it
            return
        except OSError:  # a file system without such locks
            guard.unlink(missing_ok=True)
        try:
            if read_owner(self.path) == owner:
                with contextlib.suppress(FileNotFoundError):
                    remove_through(self.fence.room(self.path.parent), self.path)
        finally:
            if descriptor is not None:
                guard.unlink(missing_ok=True)
                os.close(descriptor)

    def _beat(self) -> None:
        while not self._released.wait(self.period / _BEATS):
            self.fence.look()
            if self.fence.is_lost:
                log.info("%s is not this process's any more: it ends as soon as it can", self.path)
                return
            with contextlib.suppress(OSError):  # the next one may succeed
                os.utime(self.path)


def _period() -> float:
    text = os.environ.get(PERIOD, str(_PERIOD))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_PERIOD:
        raise ParityError(
            f"{PERIOD} is a number of seconds, above 0 and at most {_LONGEST_PERIOD:g}, not {text!r:.40}."
        )
    return seconds


def _locked(path: Path, patience: float) -> int | None:
    """Make a file and lock it as soon as no other process has it locked; the lock ends with the process.

    Returns:
        Its descriptor; None where another process, stopped just now, keeps it for so many seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            while not _flocked(descriptor):
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.01)
            with contextlib.suppress(FileNotFoundError):  # the one before has removed it
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def _is_alive(owner: dict[str, Any] | None, path: Path) -> bool:
    if owner is None:  # gone by now, or just being written
        return _beats(path, _PERIOD)
    me = _this_process()
    if owner.get("job") is not None and owner["job"] == me["job"] and owner.get("restarts") != me["restarts"]:
        return False
    if all(owner.get(name) == me[name] for name in ("host", "processes")):
        if (owner.get("pid"), owner.get("started")) == (me["pid"], me["started"]):
            return owner.get("lock") in _OF_THIS_PROCESS
        return _lives(owner.get("pid"), owner.get("started"))
    period = owner.get("period")
    return _beats(path, period if isinstance(period, int | float) and 0 < period <= _LONGEST_PERIOD else _PERIOD)


def _beats(path: Path, period: float) -> bool:
    """Return whether a lock has had a heartbeat within a period.

    Of one from the future, from before the clock was set back, that cannot be known: then a period is waited for the
    next one.
    """
    age = _age(path)
    if age >= 0:
        return age < period
    log.info("%s is from the future: waiting for up to %g s to see whether its owner lives", path, period)
    before, deadline = _beat_of(path), time.monotonic() + period
    while time.monotonic() < deadline and _beat_of(path) == before:
        time.sleep(period / 100)
    return _beat_of(path) not in (before, None)


def _beat_of(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


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
    probe = path.with_name(f".{NAME}.clock.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0 if path.exists() else math.inf
    finally:
        probe.unlink(missing_ok=True)
