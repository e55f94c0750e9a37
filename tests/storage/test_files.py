"""Files appear whole or not at all, whatever a killed process has left and whatever the file system cannot do."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from parity.errors import ParityError
from parity.schema import Field
from parity.storage import files
from parity.storage.files import (
    check_output,
    check_writable,
    disk_errors,
    read_json,
    remove_temporaries,
    temporary_of,
    write_json,
    write_output,
    write_text,
    written_whole,
)
from tests.conftest import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "made" / "file.json"
    write_json(path, {"a": 1})
    for step in ("fsync", "replace"):

        def fail(*_: object) -> None:
            assert read_json(path, "a run") == {"a": 1}
            assert temporary_of(path).read_text() == '{\n  "a": 2\n}\n'
            raise RuntimeError

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(RuntimeError):
                write_json(path, {"a": 2})
        assert names(path.parent) == ["file.json"]
    write_json(path, {"a": 2})
    assert read_json(path, "a run") == {"a": 2}


def test_what_a_killed_process_of_the_same_number_left_is_not_written_into(tmp_path: Path) -> None:
    # In containers every process may have the same number; it may have been killed right after it made a link.
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    best.write_text("the best")
    os.link(best, temporary_of(last))
    write_text(last, "the last")
    assert (best.read_text(), last.read_text()) == ("the best", "the last")
    assert names(tmp_path) == ["best.ckpt", "last.ckpt"]


def test_folders_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def on_files_only(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), tmp_path.stat()):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", on_files_only)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_disk_refuses_is_one_sentence(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    with pytest.raises(ParityError, match=f"file cannot be written: {os.strerror(number).lower()}"), disk_errors(path):
        raise OSError(number, os.strerror(number))
    with pytest.raises(FileNotFoundError), disk_errors(path):
        raise FileNotFoundError(errno.ENOENT, "as it was")


def test_where_a_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "a" / "b", Path("c/d"), Path()):
        check_writable(folder)
    assert not names(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("nothing")
    for folder, why in ((Path("file/run"), "file is a file"), (Path("link"), "link is a link to nothing")):
        with pytest.raises(ParityError, match=f"{folder} cannot be a folder: .*{why}"):
            check_writable(folder)


def _dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_files_that_were_left_are_removed_and_nothing_else(tmp_path: Path) -> None:
    here = socket.gethostname()
    kept = [".hidden", ".mine.tmp", ".best.ckpt.node7.17.tmp", "last.ckpt", "last.ckpt.damaged1", "notes.tmp"]
    alive = f".evaluation_test_best.json.{here}.{os.getppid()}.tmp"
    old = f".best.ckpt.node7.{2**22 + 1}.tmp"
    for name in (*kept, alive, old, f".last.ckpt.{here}.{_dead()}.tmp", ".run.lock.new.node7.18.tmp"):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))
    (tmp_path / ".cache.tmp").mkdir()
    (tmp_path / f".folder.{here}.{_dead()}.tmp").mkdir()
    remove_temporaries(tmp_path)
    left = [name for name in names(tmp_path) if (tmp_path / name).is_file()]
    assert left == sorted([*kept, alive])
    assert len(names(tmp_path)) == len(left) + 2
    remove_temporaries(tmp_path / "nothing")


def _write_and_lose(path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_text("other")
        temporary.unlink()


def test_a_training_that_starts_leaves_what_an_evaluation_is_writing(tmp_path: Path) -> None:
    # The evaluation ended in FileNotFoundError before it had shown anything.
    start = "import sys; from pathlib import Path; from parity.storage.files import remove_temporaries as remove; "
    with written_whole(tmp_path / "evaluation.json") as temporary:
        temporary.write_text("{}")
        subprocess.run([sys.executable, "-c", start + f"remove(Path({str(tmp_path)!r}))"], check=True, cwd=ROOT)
    assert names(tmp_path) == ["evaluation.json"]
    with pytest.raises(ParityError, match=r"evaluation\.json cannot be written: another process has removed"):
        _write_and_lose(tmp_path / "evaluation.json")
    assert (tmp_path / "evaluation.json").read_text() == "{}"


def test_a_name_that_cannot_be_flushed_is_that_of_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(files, "flush_folder", fail)
    with pytest.raises(ParityError, match=r"input/output error\. The new one is there, and may be lost"):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_a_file_may_have_as_long_a_name_as_the_file_system_allows(tmp_path: Path) -> None:
    # The temporary name was longer, so that it failed only when an evaluation was finished.
    for length in (253, 255):
        path = tmp_path / ("n" * length)
        write_output(check_output(path), {"accuracy": 1})
        assert read_json(path, "a result") == {"accuracy": 1}


def test_what_is_not_a_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    # By a user who may write into /dev, /dev/null was replaced.
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ParityError, match="pipe cannot be written: it is not a file"):
        write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_file_system_without_files_is_named() -> None:
    with pytest.raises(ParityError, match="/proc/self/runs cannot be written"):
        check_writable(Path("/proc/self/runs"))


def test_results_go_into_a_pipe_and_through_a_link(tmp_path: Path) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target.json"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_output(check_output(pipe), {"accuracy": 1})
        assert json.loads(os.read(reader, 1000)) == {"accuracy": 1}
    finally:
        os.close(reader)
    assert not pipe.is_file()
    with pytest.raises(ParityError, match="pipe cannot be written: no such device or address"):
        write_output(check_output(pipe), {"accuracy": 1})  # nobody reads it
    link.symlink_to(target)
    write_output(check_output(link), {"accuracy": 2})
    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"accuracy": 2}
    with pytest.raises(ParityError, match="is a folder"):
        check_output(tmp_path)


SCHEMA = {"seed": Field((int, type(None)), 0, 9), "names": Field((dict,), needed=False, values=Field((str,)))}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 200_000, "is damaged"),
        ('{"a": ' * 200_000, "is damaged"),
        ("9" * 5000, "is damaged"),
        ("[1]", "holds no JSON object"),
        ("", "is damaged"),
        ("\0", "is damaged"),
        ("{}", "it holds no 'seed'"),
        ('{"seed": 1, "seed": 2}', "it has a key twice, among seed"),
        ('{"seed": 1, "more": {"a": 1, "a": 1}}', "it has a key twice, among a"),
        ('\ufeff{"seed": 1}', "is damaged"),
        ('{"seed": true}', "'seed' should be a whole number or null from 0 to 9, and is True"),
        ('{"seed": 10}', "'seed' should be"),
        ('{"seed": 1e400}', "'seed' should be"),
        (f'{{"seed": {"9" * 400}}}', "'seed' should be"),
        ('{"seed": 1, "names": {"a": 1}}', "'names' should be an object of a text, and is"),
        ('{"seed": 1, "names": []}', "'names' should be"),
    ],
)
def test_a_forged_file_is_refused_in_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ParityError, match=words) as error:
        read_json(path, "a run", SCHEMA)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x80")
    for name, why in (("pipe", "is not a file"), ("folder", "is not a file"), ("link", "is not a file"),
                      ("bytes", "not text")):  # fmt: skip
        with pytest.raises(ParityError, match=why):
            read_json(tmp_path / name, "a run")
    with pytest.raises(ParityError, match="is not a run: there is no none in it"):
        read_json(tmp_path / "none", "a run")
    with pytest.raises(ParityError):
        read_json(tmp_path / ("n" * 300), "a run")


def test_a_device_stays_one() -> None:
    before = Path("/dev/null").stat().st_mode
    write_output(check_output(Path("/dev/null")), {"accuracy": 1})
    assert Path("/dev/null").stat().st_mode == before


def test_what_is_printed_stays_beside_a_result_in_standard_output(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from parity.storage.files import check_output, write_output
print("before", flush=True)
write_output(check_output(Path(sys.argv[1])), {"a": 1})
print("after")
"""
    for name in ("/dev/stdout", "/dev/fd/1"):
        with (tmp_path / "file").open("w") as file:
            subprocess.run([sys.executable, "-c", code, name], stdout=file, check=True, cwd=ROOT)
        assert "".join((tmp_path / "file").read_text().split()) == 'before{"a":1}after'
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
