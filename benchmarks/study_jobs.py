"""How much sooner is a study done with two processes? A study of 100 trials on two moons, --jobs 1 beside --jobs 2.

    python benchmarks/study_jobs.py [--rounds 1]

Each study is run by its command line in a process of its own, imports, table and figures included, and starts from
nothing. On a machine that is shared, what others take shows as cores that this study had to do without: ``cores`` is
the processor time of its processes per second of the clock, and the ratio of the clocks means something only where
--jobs 1 had one core and --jobs 2 could have two. Of several rounds the one with the smallest ratio counts. About 5
minutes a round on 2 cores.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import store
import tables

ROOT = Path(__file__).parents[1]
GRID = (
    "--widths", "32", "64", "--lr", "0.003", "0.01", "0.03", "0.1", "0.3", "--state_lr", "0.03", "--seeds", "5",
    "--epochs", "6",
)  # fmt: skip
TRIALS = 2 * 5 * 2 * 5
REACH = 0.6


def study(jobs: int) -> tuple[float, float]:
    """Run the study; return seconds of the clock and of processors."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "parity.analyses.training_stability", *GRID, "--jobs", str(jobs)]
        started = time.perf_counter()
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        used: dict[int, float] = {}
        while process.poll() is None:
            used |= _processor_seconds(process)
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        assert len(list(Path(folder).glob("artifacts/*/*/trials/*.json"))) == TRIALS
    return seconds, sum(used.values())


def _processor_seconds(process: psutil.Popen) -> dict[int, float]:
    """Return, by process, what a process and those that it has started have used so far."""
    used = {}
    with contextlib.suppress(psutil.NoSuchProcess):  # one has just ended
        for one in (process, *process.children(recursive=True)):
            used[one.pid] = sum(one.cpu_times()[:2])
    return used


def main() -> None:
    """Measure, print and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    rounds = [(study(1), study(2)) for _ in range(parser.parse_args().rounds)]
    (one, cpu_one), (two, cpu_two) = min(rounds, key=lambda pair: pair[1][0] / pair[0][0])
    rows = [
        {"what": "seconds", "one": one, "two": two, "ratio": two / one, "reach": REACH},
        {"what": "cores", "one": cpu_one / one, "two": cpu_two / two, "ratio": None, "reach": None},
    ]
    store.write("study_jobs", f"A study of {TRIALS} trials on two moons in one and in two processes", rows)
    print(tables.TABLES["study_jobs"]())


if __name__ == "__main__":
    main()
