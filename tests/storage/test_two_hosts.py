"""Two hosts on one folder: stop, take over, continue, again and again; there is one writer, and no row is lost.

Hosts are UTS namespaces, which only root can make. The processes write a table as a run does, and load no torch.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from parity.storage.locks import PERIOD
from tests.conftest import ROOT

WRITER = """
import socket, sys, time
from pathlib import Path
from parity.errors import ParityError
from parity.storage.files import write_text
from parity.storage.locks import RunLock

folder, last = Path(sys.argv[1]), Path(sys.argv[2])
table = folder / "metrics.csv"
try:
    with RunLock(folder, also=[folder / "checkpoints"]):
        rows = table.read_text().splitlines() if table.exists() else []
        while not last.exists():
            rows.append(f"{len(rows)},{socket.gethostname()}")
            write_text(table, "\\n".join(rows) + "\\n")
            write_text(folder / "checkpoints" / "last.ckpt", str(len(rows)))
except ParityError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a writer on a host of a name."""
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("only root can make UTS namespaces")
    if subprocess.run(["unshare", "--uts", "true"], check=False, capture_output=True).returncode:
        pytest.skip("UTS namespaces are not allowed here")
    with contextlib.ExitStack() as stack:

        def started(host: str) -> subprocess.Popen[str]:
            command = ["unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "sh", sys.executable, "-c"]
            arguments = [WRITER, str(tmp_path / "run"), str(tmp_path / "end")]
            process = stack.enter_context(
                subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, cwd=ROOT)
            )
            stack.callback(process.kill)
            return process

        yield started


def _until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("rounds", "period"),
    [(3, 1), pytest.param(50, 5, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
def test_stop_take_over_continue(
    tmp_path: Path, start: Callable[[str], subprocess.Popen[str]], rounds: int, period: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(PERIOD, str(period))
    run = tmp_path / "run"

    def rows() -> list[str]:
        return (run / "metrics.csv").read_text().splitlines() if (run / "metrics.csv").exists() else []

    def writes(host: str) -> bool:
        return bool(rows()) and rows()[-1].endswith(f",{host}")

    owner = start("host0")
    _until(lambda: writes("host0"), owner)
    for number in range(1, rounds + 1):
        time.sleep(0.05)
        owner.send_signal(signal.SIGSTOP)
        time.sleep(1.2 * period)
        following = start(f"host{number}")
        _until(functools.partial(writes, f"host{number}"), following)
        owner.send_signal(signal.SIGCONT)
        _, error = owner.communicate(timeout=120)
        assert owner.returncode == 1
        assert "has lost the lock of" in error
        assert error.count("\n") == 1
        owner = following
    (tmp_path / "end").touch()
    assert owner.wait(120) == 0
    numbers, hosts = zip(*(row.split(",") for row in rows()), strict=True)
    assert list(map(int, numbers)) == list(range(len(numbers)))
    assert list(dict.fromkeys(hosts)) == [f"host{number}" for number in range(rounds + 1)]
    assert list(hosts) == sorted(hosts, key=lambda host: int(host[4:])), "never two at a time"
    assert int((run / "checkpoints" / "last.ckpt").read_text()) == len(numbers)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "metrics.csv"]
    assert os.listdir(run / "checkpoints") == ["last.ckpt"]
