"""Folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parity.storage.files import disk_errors, flush, flush_folder


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside this one; it gets its real name when the block ends.

    Its files are flushed to the disk first. When the block raises, nothing is left and an older folder stays as it was;
    else it is replaced.

    Raises:
        ParityError: there is no space left, or the folder cannot be written to.
    """
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    older = folder.with_name(f".{folder.name}.{os.getpid()}.older.partial")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process of the same number
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                flush(file)
            flush_folder(temporary)
            if folder.exists():
                folder.rename(older)
            temporary.rename(folder)
            flush_folder(folder.parent)
        finally:
            if older.exists() and not folder.exists():
                older.rename(folder)
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(older, ignore_errors=True)
