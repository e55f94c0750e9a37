"""Files that appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parity.errors import ParityError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; what was written there gets its real name when the block ends.

    It is flushed to the disk first. When the block raises, nothing is left and an older file stays as it was. The
    folder is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, of: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        of: what has such a file, for the message.

    Raises:
        ParityError: it is missing or damaged.
    """
    if not path.is_file():
        raise ParityError(f"{path.parent} is not {of}: there is no {path.name} in it.")
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ParityError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ParityError(f"{path} is damaged: it holds no JSON object.")
    return content
