"""Downloads that leave nothing behind where they fail."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def removed_on_failure(root: Path, *paths: Path) -> Iterator[None]:
    """Remove files and folders that were not there before, if an exception is raised; so too ``root``, if it is empty.

    Args:
        root: the folder that they lie in.
        paths: what a download makes in it.
    """
    made = [path for path in paths if not path.exists()]
    parents = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        for path in made:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for folder in parents:
            if not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
        raise
