"""Folders appear whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parity.storage import folders
from parity.storage.folders import folder_written_whole, put_back


def half_written(folder: Path) -> Path:
    """Begin to write a folder, and fail; return the temporary one."""
    with pytest.raises(RuntimeError) as failed, folder_written_whole(folder) as made:
        fail_in(made)
    return Path(str(failed.value))


def fail_in(made: Path) -> None:
    (made / "half").write_text("half")
    raise RuntimeError(made)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_older_folder_stays_until_the_new_one_is_whole_and_is_replaced_then(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "mine"
    with folder_written_whole(folder) as made:
        (made / "old").write_text("old")
        assert not folder.exists()
    half_written(folder)
    assert names(folder) == ["old"]
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
        assert names(folder) == ["old"]
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["mine"]


def test_where_the_new_folder_cannot_get_its_name_the_older_one_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchanged", lambda *_: False)  # as on NFS
    folder = tmp_path / "mine"
    with folder_written_whole(folder) as made:
        (made / "old").write_text("old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial") and "older" not in path.name:
            raise RuntimeError
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(RuntimeError), folder_written_whole(folder) as made:
            (made / "new").write_text("new")
    assert names(tmp_path) == ["mine"]
    assert names(folder) == ["old"]


def test_what_a_killed_process_of_the_same_number_left_does_not_come_in(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    left = half_written(folder)
    left.mkdir()
    (left / "left").write_text("half")
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
    assert names(tmp_path) == ["mine"]
    assert names(folder) == ["new"]


def killed_while_writing(folder: Path, at: str) -> None:
    """Write a folder in another process, which is killed at a line."""
    lines = [
        "import os, signal; from pathlib import Path; from parity.storage import folders",
        "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)",
        {"half written": "", "about to swap names": "folders._exchanged = kill", "between two names":
         "folders._exchanged = lambda *_: False; rename = Path.rename; Path.rename = lambda path, to: "
         "kill() if path.suffix == '.partial' else rename(path, to)"}[at],
        f"with folders.folder_written_whole(Path({str(folder)!r})) as made:",
        "    (made / 'new').write_text('new')",
        "    kill()" if at == "half written" else "    pass",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("at", ["half written", "about to swap names", "between two names"])
def test_a_process_killed_at_any_moment_leaves_the_old_folder_whole_and_nothing_for_long(
    tmp_path: Path, at: str
) -> None:
    folder = tmp_path / "mine"
    with folder_written_whole(folder) as made:
        (made / "old").write_text("old")
    killed_while_writing(folder, at)
    assert len(names(tmp_path)) == 2
    put_back(folder)
    assert names(folder) == ["old"]
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
    assert names(folder) == ["new"]
    assert names(tmp_path) == ["mine"]


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    mine = folders._beside(folder, "partial").name
    others = tmp_path / mine.replace(f".{os.getpid()}.", f".{os.getppid()}.")
    others.mkdir()
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
    assert names(tmp_path) == [others.name, "mine"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "disk")
    with folder_written_whole(tmp_path / "mine") as made:
        (made / "new").write_text("new")
    assert (tmp_path / "mine").is_symlink()
    assert names(tmp_path / "disk") == ["new"]
    assert names(tmp_path) == ["disk", "mine"]


def test_what_lies_in_folders_of_the_new_one_is_flushed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with folder_written_whole(tmp_path / "mine") as made:
        (made / "programs").mkdir()
        (made / "programs" / "base.pt2").write_text("program")
        (made / "card").write_text("card")
        (made / "nothing").symlink_to("not there")
    assert {"programs", "base.pt2", "card"} <= flushed
