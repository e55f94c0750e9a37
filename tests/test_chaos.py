"""The short form of ``benchmarks/chaos.py``: a run that is killed again and again ends as if nothing had happened."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    # In a process of its own: runs are forked from it, which must have no threads.
    command = [sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--kills", "8", "--real", "0"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    kills, in_a_write, within_an_epoch = map(int, re.findall(r"\d+", done.stdout.splitlines()[-1])[:3])
    assert kills == 8
    assert in_a_write >= 2
    assert within_an_epoch >= 1
    assert "bit-identical: yes" in done.stdout
