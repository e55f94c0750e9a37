"""Two processes never write into the same run, and one that is gone never keeps another out."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from parity.errors import ParityError, Stopped
from parity.experiments import Experiment
from parity.runs.training import RunOptions, run_training
from parity.storage import locks
from parity.storage.locks import NAME, RunLock
from parity.training import Hardware

ROOT = Path(__file__).parents[2]

WITHOUT_TORCH = f"""
import os, signal, sys, time, types
from pathlib import Path
training = types.ModuleType("parity.training")
training.__path__ = [{str(ROOT / "parity" / "training")!r}]
sys.modules["parity.training"] = training
from parity.errors import ParityError
from parity.storage.locks import RunLock
"""
"""Python that has only the lock, so that a process starts at once."""

HOLD = """
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

RACE = """
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
held, log = folder / "held", folder.with_name("log")

def attempt(number):
    lock = RunLock(folder)
    try:
        lock.__enter__()
    except ParityError:
        return 1
    try:
        os.close(os.open(held, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return 3
    time.sleep(0.001)
    held.unlink()
    with log.open("ab") as file:
        file.write(b"x")
    if number % 3:
        os.kill(os.getpid(), signal.SIGKILL)
    lock.__exit__()
    return 0

print("ready", flush=True)
sys.stdin.readline()
failures = {1: 0, 3: 0}
for number in range(rounds):
    pid = os.fork()
    if pid == 0:
        status = 4
        try:
            status = attempt(number)
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, 1, -signal.SIGKILL):
        sys.exit(code)
"""


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT_TORCH + script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}, cwd=ROOT,
    )  # fmt: skip


Hold = Callable[..., contextlib.AbstractContextManager[subprocess.Popen[str]]]


@contextlib.contextmanager
def held(folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A living process that has the lock."""
    with start(HOLD, folder, **environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def owner(folder: Path) -> dict[str, Any]:
    return json.loads((folder / NAME).read_text())


def rewrite(folder: Path, **changes: object) -> None:
    (folder / NAME).write_text(json.dumps(owner(folder) | changes))


def written(folder: Path) -> list[str]:
    """Return the names in a folder, without the rooms of its lock's owner."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(".writer.")]


def make_old(folder: Path, seconds: float) -> None:
    now = time.time()
    os.utime(folder / NAME, (now - seconds, now - seconds))


def assert_blocks(folder: Path, *words: str) -> None:
    before = owner(folder)
    with pytest.raises(ParityError, match="is being written by another process") as error, RunLock(folder):
        pass
    for word in words:
        assert word in str(error.value)
    assert owner(folder) == before


def assert_does_not_block(folder: Path) -> None:
    with RunLock(folder):
        assert owner(folder)["pid"] == os.getpid()
        assert written(folder) == [NAME]
    assert not folder.exists() or not list(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "experiments" / "Digits" / "run"


def test_a_living_process_blocks_and_says_who_it_is(folder: Path) -> None:
    with held(folder, SLURM_JOB_ID="4711") as process:
        assert_blocks(folder, f"on host {socket.gethostname()}, pid {process.pid}, SLURM job 4711")
        assert written(folder) == [NAME]
        assert len(list(folder.iterdir())) == 2, "the refused one's room is gone"
        process.send_signal(signal.SIGSTOP)
        make_old(folder, 3600)
        assert_blocks(folder, f"pid {process.pid}")  # it sleeps: its heart does not beat, but it lives
    with held(folder) as process:
        assert_blocks(folder, f"pid {process.pid}: wait")


def test_in_the_same_process_too(folder: Path) -> None:
    with RunLock(folder):
        assert_blocks(folder, f"pid {os.getpid()}")
    assert_does_not_block(folder)


def test_a_killed_process_does_not_block(folder: Path) -> None:
    with held(folder) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but as long as nobody asked, a zombie
        assert owner(folder)["pid"] == process.pid
        assert_does_not_block(folder)
        assert process.returncode is None
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder) as process:
        process.kill()
    assert owner(folder)["pid"] == process.pid
    assert_does_not_block(folder)


def test_a_later_process_of_the_same_number_does_not_block(folder: Path) -> None:
    with held(folder) as process:
        rewrite(folder, started="1")
        assert_does_not_block(folder)
        assert process.poll() is None


@pytest.mark.parametrize("changes", [{"pid": None}, {"pid": "1"}, {"pid": -1}, {"pid": 10**30}])
def test_a_number_that_no_process_has_does_not_block(folder: Path, changes: dict[str, object]) -> None:
    with held(folder):
        rewrite(folder, **changes)
        assert_does_not_block(folder)


def test_another_users_process_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signum: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with held(folder) as process, monkeypatch.context() as patch:
        patch.setattr(os, "kill", refuse)
        assert_blocks(folder, f"pid {process.pid}")
        rewrite(folder, started="1")
        assert_does_not_block(folder)
        patch.undo()


@pytest.mark.parametrize("where", [{"host": "node7"}, {"processes": "another container of this name"}])
def test_on_another_host_the_heartbeat_decides(folder: Path, where: dict[str, str]) -> None:
    with held(folder) as process:
        rewrite(folder, **where)
        assert_blocks(folder, f"on host {where.get('host', socket.gethostname())}, pid {process.pid}")
        make_old(folder, 30)
        assert_blocks(folder)
        make_old(folder, 61)
        assert_does_not_block(folder)


def test_the_same_job_requeued_elsewhere_does_not_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(folder, SLURM_JOB_ID="12", SLURM_RESTART_COUNT="1"):
        rewrite(folder, host="node7")
        for job, restarts in ((None, None), ("13", "2"), ("12", "1")):
            for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
                if value is None:
                    monkeypatch.delenv(name, raising=False)
                else:
                    monkeypatch.setenv(name, value)
            assert_blocks(folder, "on host node7", "SLURM job 12")
        monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
        assert_does_not_block(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\x00\x80"])
def test_a_lock_that_cannot_be_read(folder: Path, content: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(content)
    with pytest.raises(ParityError, match=r"has not written its name yet: .*run\.lock may be"), RunLock(folder):
        pass
    assert (folder / NAME).read_bytes() == content
    make_old(folder, 61)
    assert_does_not_block(folder)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_lock_that_is_no_file_is_not_waited_for(folder: Path, make: Callable[[Path], object]) -> None:
    folder.mkdir(parents=True)
    make(folder / NAME)
    assert locks.read_owner(folder / NAME) is None


def test_its_heart_beats_and_outlives_what_the_disk_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(locks.PERIOD, "0.06")
    beats: list[bool] = []
    touch = os.utime

    def unreliable(path: Path) -> None:
        beats.append(True)
        if len(beats) < 3:
            raise OSError(116, "Stale file handle")
        touch(path)

    with RunLock(folder):
        make_old(folder, 3600)
        monkeypatch.setattr(os, "utime", unreliable)
        _until(lambda: time.time() - (folder / NAME).stat().st_mtime < 60)
    monkeypatch.undo()
    assert len(beats) >= 3


def test_a_lock_that_another_process_took_over_is_left_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(locks.PERIOD, "0.06")
    with RunLock(folder):
        (folder / NAME).unlink()
        with held(folder, **{locks.PERIOD: "60"}) as process:
            make_old(folder, 3600)
            time.sleep(0.2)
            assert time.time() - (folder / NAME).stat().st_mtime > 60
    assert owner(folder)["pid"] == process.pid


def test_one_that_waits_gets_it_in_the_end(folder: Path) -> None:
    with held(folder) as process, start(HOLD.replace("[1]))", "[1]), wait=True)"), folder) as waiting:
        time.sleep(0.5)
        assert owner(folder)["pid"] == process.pid
        assert process.stdin is not None
        assert waiting.stdout is not None
        process.stdin.close()
        assert waiting.stdout.readline() == "held\n"
        assert owner(folder)["pid"] == waiting.pid
        waiting.kill()


def test_a_dead_ones_lock_is_looked_at_again_before_it_is_removed(folder: Path) -> None:
    with held(folder) as dead:
        dead.kill()
    stale = (folder / NAME).read_text()
    with (folder / f".{NAME}.guard.tmp").open("w") as guard:  # as one that removes the lock just now
        fcntl.flock(guard, fcntl.LOCK_EX)
        with start(HOLD.replace("with", "print(flush=True)\nwith"), folder) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "\n"
            time.sleep(1)
            assert (folder / NAME).read_text() == stale
            rewrite(folder, pid=os.getpid(), started=locks._start_time(os.getpid()))
            fcntl.flock(guard, fcntl.LOCK_UN)
            assert other.stdout.read() == ""
            assert other.wait() == 1
    assert owner(folder)["pid"] == os.getpid()


def test_on_file_systems_without_links_and_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    with held(folder) as process:
        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
        assert_blocks(folder, f"pid {process.pid}")
    assert_does_not_block(folder)


def test_what_was_made_for_the_lock_goes_with_it(tmp_path: Path, folder: Path) -> None:
    with RunLock(folder):
        pass
    assert not list(tmp_path.iterdir())
    with RunLock(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]
    with RunLock(folder):
        (folder / "kept").unlink()
    assert folder.exists(), "it was there before"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        with pytest.raises(ParityError, match=f"{name} cannot be a folder"), RunLock(tmp_path / name):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_of_many_processes_one_at_a_time_has_it(tmp_path: Path) -> None:
    """Eight processes that take the lock over and over, and mostly die with it: then all find a dead one's at once."""
    folder = tmp_path / "run"
    racers = [start(RACE, folder, 150) for _ in range(8)]  # on a busy machine one attempt in ten has it
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    assert [racer.wait(timeout=300) for racer in racers] == [0] * 8, "3: two had it at a time"
    assert len((tmp_path / "log").read_bytes()) > 50, "they hardly raced"
    assert_does_not_block(folder)


# --- runs ---

CPU = RunOptions(hardware=Hardware("cpu"))


def run(base: Path, name: str = "run", epochs: int = 2, **overrides: object) -> Experiment:
    overrides = {"trainer.max_epochs": epochs, **overrides}
    return Experiment("Digits", "mlp_k2_add", base_directory=base, run_name=name, overrides=overrides)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_lock_is_gone_after_a_normal_end_an_error_and_a_signal(digits_base: Path) -> None:
    experiment = run(digits_base, "ends")
    lock = experiment.save_dir / NAME
    seen = []

    class Look(pl.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            seen.append(json.loads(lock.read_text())["pid"])
            if len(seen) == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    options = RunOptions(hardware=Hardware("cpu"), callbacks=[Look()])
    run_training(experiment, options)
    assert seen == [os.getpid()] * 2
    whole = ["checkpoints", "config.json", "metrics.csv", "test_metrics.json"]
    assert names(experiment.save_dir) == whole

    with pytest.raises(ParityError, match="was started with other settings"):
        run_training(run(digits_base, "ends", **{"optimizer.lr": 0.5}), options)
    assert names(experiment.save_dir) == whole

    with pytest.raises(Stopped):
        run_training(run(digits_base, "ends", epochs=9), options)
    assert len(seen) == 4
    assert names(experiment.save_dir) == whole[:-1]


def test_a_run_that_fails_at_once_leaves_no_folder(tmp_path: Path, digits_base: Path) -> None:
    run_training(run(digits_base, "source", epochs=1), CPU)
    source = run(digits_base, "source").checkpoint("last")
    base_weights = digits_base / "Digits" / "original" / "mlp_base" / "checkpoints" / "best.ckpt"
    other = RunOptions(hardware=Hardware("cpu"), resume_from=source)
    with pytest.raises(ParityError, match=r"code\.k"):
        run_training(run(tmp_path, **{"code.k": 3}), other, base_weights)
    assert not list(tmp_path.iterdir())


def test_a_second_train_py_is_refused_and_a_killed_one_is_gone_on_with(
    digits_base: Path, train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(digits_base),
                 "--run_name", "twice", "--set", "trainer.max_epochs=5000", "--accelerator", "cpu")  # fmt: skip
    folder = digits_base / "Digits" / "original" / "twice"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": "99", "SLURM_JOB_NAME": "interactive"}
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        _until((folder / "checkpoints" / "last.ckpt").exists)
        assert train(*arguments) == 1
        error = capsys.readouterr().err
        assert f"on host {socket.gethostname()}, pid {process.pid}, SLURM job 99" in error
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert process.poll() is None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        done = len((folder / "metrics.csv").read_text().splitlines()) - 1
        more = run(digits_base, "twice", epochs=5000)

        class Stop(pl.Callback):
            def on_train_epoch_end(self, *_: object) -> None:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Stopped):
            run_training(more, RunOptions(hardware=Hardware("cpu"), callbacks=[Stop()]))
    assert [row["epoch"] for row in more.load_metrics()] in (
        list(range(1, done + 1)),  # its last row was written, its last checkpoint was not
        list(range(1, done + 2)),
    )
    assert not (folder / NAME).exists()


def _until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
