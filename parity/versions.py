"""The versions of what runs: of packages, and of a checkout's code."""

import importlib.metadata
import platform
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy", "wandb")
_ROOT = Path(__file__).parents[1]


@cache  # the code that runs is what was imported, whatever is changed on disk since
def code_version() -> dict[str, Any]:
    """Return what code runs: versions, and the git commit where the package lies in a checkout of its own."""
    version: dict[str, Any] = {"python": platform.python_version(), "parity": __version__}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            version[name] = importlib.metadata.version(name)
    if (_ROOT / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            version["git_commit"] = _git("rev-parse", "HEAD")
            version["git_dirty"] = bool(_git("status", "--porcelain"))
    return version


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
