"""A process that has lost its lock changes nothing any more, wherever it was stopped when it lost it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from parity.errors import ParityError
from parity.storage import fences
from parity.storage.fences import Fence, check_held, is_lost
from parity.storage.files import remove, rename, write_text, written_whole
from parity.storage.locks import NAME, PERIOD, RunLock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def take_over(folder: Path) -> Iterator[Callable[[], RunLock]]:
    """Take the lock of the owner, as a process of another host does that has had no heartbeat for a period."""
    with ExitStack() as stack:

        def take() -> RunLock:
            owner = json.loads((folder / NAME).read_text())
            (folder / NAME).write_text(json.dumps(owner | {"host": "node7"}))
            os.utime(folder / NAME, (time.time() - 3600,) * 2)
            return stack.enter_context(RunLock(folder, also=[folder / "checkpoints"]))

        yield take


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAME
    }


def write_late(path: Path, take: Callable[[], RunLock]) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("half")
        take()
        write_as_its_successor(path)


def write_as_its_successor(path: Path) -> None:
    former, _ = fences._HELD
    fences._HELD.remove(former)  # the new owner is another process in truth
    write_text(path, "new")
    fences._HELD.insert(0, former)


@pytest.mark.parametrize("name", ["metrics.csv", "checkpoints/last.ckpt"])
def test_stopped_while_it_writes_a_file(folder: Path, take_over: Callable[[], RunLock], name: str) -> None:
    with RunLock(folder, also=[folder / "checkpoints"]):
        write_text(folder / name, "old")
        with pytest.raises(ParityError, match=r"has lost the lock of .*run, for run\.lock is now that of another"):
            write_late(folder / name, take_over)
    assert everything(folder) == {name: "new"}


@pytest.mark.parametrize("act", [lambda path: write_text(path, "late"), remove, lambda path: rename(path, "aside")])
def test_stopped_between_a_check_and_what_it_does(
    folder: Path, take_over: Callable[[], RunLock], act: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(folder, also=[folder / "checkpoints"]):
        path = folder / "checkpoints" / "last.ckpt"
        write_text(path, "old")

        def check_and_be_stopped(self: Fence) -> None:
            monkeypatch.undo()
            take_over()
            write_as_its_successor(path)

        monkeypatch.setattr(Fence, "check", check_and_be_stopped)
        with pytest.raises(ParityError, match="has lost the lock"):
            act(path)
        assert everything(folder) == {"checkpoints/last.ckpt": "new"}
    check_held(folder)  # by the one that took it over
    assert everything(folder) == {"checkpoints/last.ckpt": "new"}


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_lock_that_is_removed_or_replaced_is_noticed_at_the_next_heartbeat(
    folder: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PERIOD, "0.06")
    with RunLock(folder):
        write_text(folder / "file", "before")
        (folder / NAME).unlink()
        if how == "replaced":
            (folder / NAME).write_text("by hand")
        deadline = time.monotonic() + 60
        while not is_lost(folder):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(ParityError, match=f"run.lock was {how}"):
            write_text(folder / "file", "after")
    assert everything(folder) == {"file": "before"}


def test_a_folder_on_another_disk_by_way_of_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    folder.mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "scratch")
    with RunLock(folder, also=[folder / "checkpoints"]):
        assert [path.name[:8] for path in (tmp_path / "scratch").iterdir()] == [".writer."]
        write_text(folder / "checkpoints" / "last.ckpt", "text")
        remove(folder / "checkpoints" / "nothing.ckpt")
    assert everything(tmp_path / "scratch") == {"last.ckpt": "text"}
    assert os.listdir(tmp_path / "scratch") == ["last.ckpt"]


def test_a_lock_from_the_future_does_not_block_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PERIOD, "0.5")
    with RunLock(folder) as lock:
        owner = json.loads((folder / NAME).read_text())
        lock._released.set()  # its heart stands still
        (folder / NAME).write_text(json.dumps(owner | {"host": "node7"}))
        os.utime(folder / NAME, (time.time() + 3600,) * 2)
        with RunLock(folder):
            assert json.loads((folder / NAME).read_text())["lock"] != owner["lock"]


def test_one_from_the_future_whose_heart_beats_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PERIOD, "3")
    with RunLock(folder):
        owner = json.loads((folder / NAME).read_text())
        (folder / NAME).write_text(json.dumps(owner | {"host": "node7"}))
        os.utime(folder / NAME, (time.time() + 3600,) * 2)
        with pytest.raises(ParityError, match="is being written by another process"), RunLock(folder):
            pass


@pytest.mark.parametrize("period", ["0", "-1", "nan", "inf", "x", "", "1e9"])
def test_a_period_that_is_none(folder: Path, period: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PERIOD, period)
    with pytest.raises(ParityError, match="PARITY_LOCK_SECONDS is a number of seconds"):
        RunLock(folder)
