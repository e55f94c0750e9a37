import io
import logging

import pytest
from rich.console import Console

from parity.evaluation import progress as module
from parity.evaluation.progress import progress


def test_a_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress("smoothing", 3, console) as advance:
        for _ in range(3):
            advance()
    assert "smoothing" in console.file.getvalue()
    assert "3/3" in console.file.getvalue()


def test_elsewhere_lines_are_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", -1.0)
    with caplog.at_level(logging.INFO, "parity"), progress("smoothing", 2, console) as advance:
        advance()
        advance()
    assert [record.message for record in caplog.records] == ["smoothing: 1 of 2", "smoothing: 2 of 2"]
    assert console.file.getvalue().strip() == ""
