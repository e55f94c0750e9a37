"""Disks that are full or cannot be written to: one clear error, nothing lost, and the same command resumes.

They are real: small ones in memory, which only root can mount. Elsewhere these tests are skipped.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from parity.errors import ParityError
from parity.experiments import Experiment
from parity.models.weights import fingerprint, read_file
from parity.runs.training import RunOptions, run_training
from parity.storage.files import write_text
from parity.training import Hardware
from parity.training.loggers.epoch_table import read_table

ROOT = Path(__file__).parents[2]
CPU = Hardware("cpu")
EPOCHS, LONG = 6, 60
SIZE = 6 << 20
"""Bytes of the small disk: three of the run's checkpoints take 1.7 MB."""

FULL = r"^\S+ cannot be written: no space left on device\..* the same command resumes\.$"
READ_ONLY = r"^\S+ cannot be written: read-only file system\."

Result = tuple[str, str, str, dict[str, float]]


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder that a small disk is mounted on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "parity-test", folder)
    except FileNotFoundError:
        pytest.skip("mounting is not allowed here: there is no mount command")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, room: int = 0) -> None:
    """Fill a disk with a file, up to so many bytes."""
    with (disk / "filler").open("wb", buffering=0) as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(b"x" * max(0, free - room))
        if not room:
            with pytest.raises(OSError, match="No space left"):
                file.write(b"x" * 4096)


class At(pl.Callback):
    """Does something once, when an epoch begins or after a burst of it."""

    def __init__(self, epoch: int, act: Callable[[], object], burst: int | None = None) -> None:
        self.when, self.act, self.epochs = (epoch, burst), act, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.epochs += 1
        if self.when == (trainer.current_epoch + 1, None):
            self.act()

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.when == (trainer.current_epoch + 1, batch_idx):
            self.act()


def experiment(base_directory: Path, epochs: int = EPOCHS) -> Experiment:
    overrides = {"trainer.max_epochs": epochs, "data.batch_size": 8}
    return Experiment("Digits", "mlp_k2_add", base_directory=base_directory, overrides=overrides)


def train(run: Experiment, weights: Path, callback: pl.Callback | None = None, **options: Any) -> None:
    run_training(run, RunOptions(hardware=CPU, callbacks=[callback] if callback else [], **options), weights)


def result(run: Experiment) -> Result:
    models = [fingerprint(run.load_trained_model(name)) for name in ("last", "best")]
    return (*models, (run.save_dir / "metrics.csv").read_text(), run.load_test_metrics())  # type: ignore[return-value]


@pytest.fixture(scope="module")
def base_weights(trained_digits_base: Path) -> Path:
    return trained_digits_base / "Digits" / "original" / "mlp_base" / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, base_weights: Path) -> Result:
    run = experiment(tmp_path_factory.mktemp("whole"))
    train(run, base_weights)
    return result(run)


def assert_intact(run: Experiment, epochs: int, uninterrupted: Result) -> None:
    """What was there after so many epochs is there; the row of the next may be, too."""
    assert not list(run.save_dir.rglob(".*")), "temporary files"
    assert not (run.save_dir / "run.lock").exists()
    paths = sorted((run.save_dir / "checkpoints").glob("*.ckpt"))
    assert [path.name for path in paths] == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert [read_file(path)["epoch"] + 1 for path in paths][1:] == [epochs, epochs - 1]
    rows = (run.save_dir / "metrics.csv").read_text().splitlines()
    assert len(read_table(run.save_dir / "metrics.csv")) in (epochs, epochs + 1)
    assert [_without_test(row) for row in rows] == [
        _without_test(row) for row in uninterrupted[2].splitlines()[: len(rows)]
    ]


def _without_test(row: str) -> str:
    """Only validation and training: test metrics come in the end."""
    return ",".join(row.split(",")[:11])


ROOMS = {"none": 0, "a table": 8192, "half a checkpoint": 300_000, "all but the end": 560_000}


@pytest.mark.parametrize("room", ROOMS)
def test_a_disk_that_gets_full(disk: Path, base_weights: Path, uninterrupted: Result, room: str) -> None:
    run = experiment(disk / "runs")
    with pytest.raises(ParityError, match=FULL):
        train(run, base_weights, At(4, lambda: fill(disk, ROOMS[room])))
    assert_intact(run, 3, uninterrupted)
    if room == "none":
        with pytest.raises(ParityError, match=FULL):
            train(run, base_weights)
        assert_intact(run, 3, uninterrupted)
    (disk / "filler").unlink()
    train(run, base_weights)
    assert result(run) == uninterrupted


def test_within_an_epoch(disk: Path, base_weights: Path, uninterrupted: Result) -> None:
    run = experiment(disk / "runs")
    with pytest.raises(ParityError, match=FULL):
        train(run, base_weights, At(3, lambda: fill(disk), burst=1), save_every_minutes=1e-9)
    content = read_file(run.checkpoint("last"))
    assert content["epoch"] + 1 == 2
    assert len(content["callbacks"]["Checkpoints"]["ranks"][0]["epoch"]["groups"]) == 16  # after the burst before
    (disk / "filler").unlink()
    train(run, base_weights)
    assert result(run) == uninterrupted


def test_when_a_signal_comes(disk: Path, base_weights: Path, uninterrupted: Result) -> None:
    def fill_and_stop() -> None:
        fill(disk)
        os.kill(os.getpid(), signal.SIGTERM)

    run = experiment(disk / "runs")
    with pytest.raises(ParityError, match=FULL):
        train(run, base_weights, At(4, fill_and_stop, burst=2))
    assert_intact(run, 3, uninterrupted)
    (disk / "filler").unlink()
    train(run, base_weights)
    assert result(run) == uninterrupted


def test_a_disk_that_is_full_from_the_start(disk: Path, base_weights: Path) -> None:
    fill(disk)
    callback = At(0, lambda: None)
    with pytest.raises(ParityError, match=FULL):
        train(experiment(disk / "runs"), base_weights, callback)
    assert callback.epochs == 0
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_no_room_for_the_lock(disk: Path, base_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.training.loop import run_folder as module

    monkeypatch.setattr(module, "check_writable", lambda folder: fill(disk))  # just before
    with pytest.raises(ParityError, match=r"run\.lock cannot be written: no space left"):
        train(experiment(disk / "runs"), base_weights)
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_read_only_disk(disk: Path, base_weights: Path) -> None:
    run = experiment(disk / "runs")
    train(run, base_weights)
    (run.save_dir / "test_metrics.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in disk.rglob("*")}
    mount("-o", "remount,ro", disk)
    callback = At(0, lambda: None)
    for base_directory in (disk / "runs", disk / "others" / "runs"):
        for weights in (base_weights, None):  # else the base model would be trained first
            with pytest.raises(ParityError, match=READ_ONLY):
                run_training(experiment(base_directory), RunOptions(hardware=CPU, callbacks=[callback]), weights)
    assert callback.epochs == 0
    assert {path: path.stat().st_mtime_ns for path in disk.rglob("*")} == before


def test_a_disk_that_becomes_read_only(disk: Path, base_weights: Path, uninterrupted: Result) -> None:
    run = experiment(disk / "runs")
    with pytest.raises(ParityError, match=READ_ONLY):
        train(run, base_weights, At(3, lambda: mount("-o", "remount,ro", disk)))
    mount("-o", "remount,rw", disk)
    assert (run.save_dir / "run.lock").exists(), "it could not be removed, and is nobody's"
    train(run, base_weights)
    assert result(run) == uninterrupted


def test_an_evaluation_on_a_read_only_disk_is_shown_and_written_elsewhere(
    disk: Path,
    tmp_path: Path,
    base_weights: Path,
    evaluate: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    train(experiment(disk / "runs", 1), base_weights)
    mount("-o", "remount,ro", disk)
    options = ("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--base_directory", str(disk / "runs"))
    assert evaluate(*options, "--json", str(tmp_path / "all.json")) == 0
    printed = capsys.readouterr().out
    assert "the evaluation is not kept in the run's folder" in caplog.text
    assert "overall accuracy A_o(f)" in printed
    assert json.loads((tmp_path / "all.json").read_text())["code"]["k"] == 2


@pytest.mark.parametrize("room", [0, 4096, 300_000])
def test_tensorboard_on_a_full_disk(disk: Path, base_weights: Path, uninterrupted: Result, room: int) -> None:
    run = experiment(disk / "runs")
    with pytest.raises(ParityError, match=FULL):
        train(run, base_weights, At(4, lambda: fill(disk, room)), tensorboard=True)
    (disk / "filler").unlink()
    train(run, base_weights, tensorboard=True)
    assert result(run) == uninterrupted


@pytest.mark.parametrize(
    "option",
    [
        ("--tensorboard_logger",),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("--tensorboard_logger", "--no-csv_logger"), marks=pytest.mark.slow),
    ],
)
def test_train_py_on_a_full_disk(
    disk: Path, base_weights: Path, uninterrupted: Result, option: tuple[str, ...]
) -> None:
    """The real thing: what the process says is one line."""
    run = experiment(disk / "runs")
    command = [sys.executable, str(ROOT / "train.py"), "--dataset", "Digits", "--experiment_name", "mlp_k2_add",
               "--base_directory", str(disk / "runs"), "--base_weights", str(base_weights), *option,
               "--accelerator", "cpu", "--set", f"trainer.max_epochs={LONG}", "data.batch_size=8"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=disk.parent
    ) as process:
        deadline = time.monotonic() + 400
        while not (run.save_dir / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        fill(disk)
        _, error = process.communicate(timeout=100)
    assert re.search(FULL, error.removeprefix("error: ").removesuffix("\n"))
    assert error.count("\n") == 1
    assert process.returncode == 1
    epochs = read_file(run.checkpoint("last"))["epoch"] + 1
    assert 0 < epochs < LONG
    assert not list(run.save_dir.rglob(".*"))
    assert not (run.save_dir / "run.lock").exists()
    (disk / "filler").unlink()
    train(experiment(disk / "runs", LONG), base_weights, csv="--no-csv_logger" not in option)
    if "--no-csv_logger" not in option:
        rows = (run.save_dir / "metrics.csv").read_text().splitlines()
        assert [_without_test(row) for row in rows[: EPOCHS + 1]] == [
            _without_test(row) for row in uninterrupted[2].splitlines()
        ]


def test_a_file_beyond_the_limit(tmp_path: Path) -> None:
    """What ``ulimit -f`` refuses counts as a full disk; no mount is needed to see it."""
    path = tmp_path / "metrics.csv"
    write_text(path, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ParityError, match=r"metrics\.csv cannot be written: file too large\."):
            write_text(path, "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]
