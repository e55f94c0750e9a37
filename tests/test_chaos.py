"""The short form of ``benchmarks/chaos.py``: what is disturbed again and again ends as if nothing had happened."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize(
    "events", [12, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])]
)  # fmt: skip
def test_what_is_disturbed_again_and_again_ends_as_if_nothing_had_happened(tmp_path: Path, events: int) -> None:
    # In a process of its own: runs are forked from it, which must have no threads.
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--events", str(events), "--ddp", "0"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--keep_no_figures"], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    disturbances, in_a_write, _ = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1])[:3])
    assert disturbances == events
    assert in_a_write >= 1
    assert "bit-identical: yes" in done.stdout
