"""Processes of a study: what is left of them, and of the study, when they end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from parity.analyses.study import Study
from parity.analyses.training_stability import STUDY
from tests.conftest import ROOT

AXES = dict(rule=("bp",), optimizer=("sgd",), widths=(8, 16), lr=(0.003, 0.01), seeds=4, epochs=4)
COMMAND = [
    sys.executable, "-m", "parity.analyses.training_stability", "--jobs", "2", "--rule", "bp", "--optimizer", "sgd",
    "--widths", "8", "16", "--lr", "0.003", "0.01", "--seeds", "4", "--epochs", "4",
]  # fmt: skip

pytestmark = pytest.mark.slow


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        COMMAND, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(what: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def results(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("artifacts/*/*/trials/*.json")}


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_study_loses_the_running_trials_at_most(signum: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for(lambda: len(results(tmp_path)) >= 3)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 3  # two, and what they are forked from
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    if signum != signal.SIGKILL:
        assert errors == f"stopped by {signum.name}: the same command resumes it.\n"
    assert not psutil.wait_procs(workers, timeout=30)[1]

    left = results(tmp_path)
    begun = len(list(tmp_path.glob("artifacts/*/*/logs/*.log")))
    assert begun - len(left) <= 2
    assert all(json.loads(path.read_text())["task"] == "two_moons" for path in left)

    again = start(tmp_path)
    output, errors = again.communicate(timeout=500)
    assert again.returncode == 0, errors
    assert f"{len(left)} of 16 trials are done" in output
    after = results(tmp_path)
    assert len(after) == 16
    assert {path: after[path] for path in left} == left
    study = Study(STUDY, AXES, tmp_path / "artifacts")
    assert not study.unfinished()
    assert (study.folder / "table.parquet").exists()
