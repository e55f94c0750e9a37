"""What goes to standard output, whatever that is: a terminal, a file, a pipe that takes ASCII alone."""

import io
import sys
from typing import Any

from rich.console import Console


def console(**options: Any) -> Console:
    """Return standard output as rich's console; control codes go to a terminal alone, also where FORCE_COLOR is set."""
    return Console(force_terminal=None if sys.stdout.isatty() else False, **options)


def print_line(text: str) -> None:
    """Print a line, with question marks for what standard output cannot show."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def take_any_text() -> None:
    """Let standard output and errors take any text, with question marks for what they cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
