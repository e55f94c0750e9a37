"""Standard output: a terminal, or what is not one, or takes ASCII alone."""

import io
import logging
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from parity import terminal
from tests.conftest import ROOT


def test_text_that_ascii_cannot_show_ends_in_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii", write_through=True))
    terminal.print_line("γ is 1")
    terminal.guard_output()
    print("β is 2")
    record = logging.LogRecord("name", logging.INFO, "", 0, "α is 3", None, None)
    logging.StreamHandler(sys.stdout).handle(record)
    assert content.getvalue() == b"? is 1\n? is 2\n? is 3\n"


PRINTS = """
import logging, sys
from parity.command_line import run_command
from argparse import Namespace
from pathlib import Path

def main(args):
    for number in range(20000):
        print("a line", number)
        logging.getLogger("parity").info("a record %s", "\u03b1")
    Path(sys.argv[1]).write_text("done")

sys.exit(run_command(main, Namespace(debug=False)))
"""


@pytest.mark.parametrize(
    ("shell", "status", "error"),
    [
        ("{} | head -n 1 >/dev/null", 0, ""),
        ("{} 2>&1 | head -n 1 >/dev/null", 0, ""),
        ("{} >&-", 0, ""),
        ("{} >&- 2>&-", 0, ""),
        ("PYTHONIOENCODING=ascii {} >/dev/null", 0, ""),
        ("{} >/dev/full", 1, "error: standard output cannot be written: no space left on device.*\n"),
    ],
)
def test_work_is_done_whatever_becomes_of_the_output(tmp_path: Path, shell: str, status: int, error: str) -> None:
    command = shlex.join([sys.executable, "-c", PRINTS, str(tmp_path / "file")])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format(command)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert re.fullmatch(error, done.stderr)
    assert done.returncode == status
    assert (tmp_path / "file").read_text() == "done"


@pytest.mark.parametrize("module", ["parity train", "parity.analyses.training_stability"])
@pytest.mark.parametrize("shell", ["PYTHONIOENCODING=ascii {} >/dev/null", "{} | head -n 1 >/dev/null", "{} >&-"])
def test_help_goes_wherever_the_output_does(module: str, shell: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m {module} --help"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell.format(command)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_force_color_into_a_file_writes_no_control_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal.console().print("1 [/a] ", "bold", style="bold", sep="")
    assert capsys.readouterr().out == "1 [/a] bold\n"


def test_a_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with terminal.progress("smoothing", 3, shown_in=console) as advance:
        for _ in range(3):
            advance()
    assert "smoothing" in console.file.getvalue()
    assert "3/3" in console.file.getvalue()


def test_elsewhere_lines_are_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    monkeypatch.setattr(terminal, "_SECONDS_BETWEEN_LINES", -1.0)
    with caplog.at_level(logging.INFO, "parity"), terminal.progress("smoothing", 2, shown_in=console) as advance:
        advance()
        advance()
    assert [record.message for record in caplog.records] == ["smoothing: 1 of 2", "smoothing: 2 of 2"]
    assert console.file.getvalue().strip() == ""


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert terminal.visible("mlp\x1b[31m\r\nnext é\u2028") == r"mlp\x1b[31m\r\nnext é\u2028"
