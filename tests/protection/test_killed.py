"""``protect`` after SIGKILL: the same call again ends as if nothing had happened, wherever it was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

SCRIPT = Path(__file__).with_name("protect_twice.py")
pytestmark = pytest.mark.timeout(1800)  # several processes, one after the other
MOMENTS = (
    ("step", 12),  # in the second epoch of the first code
    *(pytest.param(moment, times, marks=pytest.mark.slow) for moment, times in (
        ("base predictions", 8), ("base predictions", 160),
        ("before a file has its name", 3), ("before a file has its name", 17), ("before a file has its name", 45),
        ("after a file has its name", 4), ("after a file has its name", 8), ("after a file has its name", 22),
        ("step", 1), ("step", 24), ("step", 40), ("evaluation", 1), ("evaluation", 2),
    )),
)  # fmt: skip


def run(folder: Path, *killed: str) -> int:
    """Protect in a process of its own; return its exit status."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(SCRIPT), str(folder), *killed], env=environment, check=False).returncode


def end(folder: Path) -> Any:
    """Return what a process that was not killed had at its end."""
    return torch.load(folder / "end.pt", weights_only=True)


def assert_the_same(found: Any, expected: Any) -> None:
    assert list(found) == list(expected) == ["cells", "add"]
    for code, of_code in expected.items():
        weights = found[code]["weights"]
        assert all(torch.equal(weights[name], value) for name, value in of_code["weights"].items()), code
        assert found[code]["history"] == of_code["history"]
        assert found[code]["words"] == of_code["words"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder) == 0
    return end(folder)


@pytest.mark.parametrize(("moment", "times"), MOMENTS)
def test_the_same_call_after_a_kill_ends_bit_for_bit_alike(
    undisturbed: Any, moment: str, times: int, tmp_path: Path
) -> None:
    assert run(tmp_path, moment, str(times)) == -signal.SIGKILL
    assert run(tmp_path) == 0
    assert_the_same(end(tmp_path), undisturbed)


@pytest.mark.slow
def test_a_call_that_is_killed_in_every_second_epoch_ends_alike(undisturbed: Any, tmp_path: Path) -> None:
    kills = 0
    while (status := run(tmp_path, "step", "12")) == -signal.SIGKILL:  # each call ends one of 6 epochs of 8 steps
        kills += 1
        assert kills < 10
    assert status == 0
    assert kills == 5
    assert_the_same(end(tmp_path), undisturbed)
