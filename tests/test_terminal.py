"""Standard output that is not a terminal, or takes ASCII alone."""

import io
import logging
import sys

import pytest

from parity import terminal


def test_text_that_ascii_cannot_show_ends_in_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii", write_through=True))
    terminal.print_line("γ is 1")
    terminal.take_any_text()
    print("β is 2")
    record = logging.LogRecord("name", logging.INFO, "", 0, "α is 3", None, None)
    logging.StreamHandler(sys.stdout).handle(record)
    assert content.getvalue() == b"? is 1\n? is 2\n? is 3\n"


def test_force_color_into_a_file_writes_no_control_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal.console().print("1 [bold]bold[/bold]")
    assert capsys.readouterr().out == "1 bold\n"
