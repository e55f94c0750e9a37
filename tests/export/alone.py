"""Python processes that can import one package, what it needs, and the standard library."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

_PRELUDE = """
import importlib.machinery, runpy, sys
class WithoutOthers(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {forbidden!r} else super().find_spec(name, path, target)
sys.meta_path[2:] = [WithoutOthers]  # after those of built-in and frozen modules
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(package: str, script: Path, *arguments: str | Path) -> None:
    """Run a script in a process in which no other installed package, parity among them, can be imported."""
    needed = _closure(package)
    forbidden = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not needed & {_canonical(owner) for owner in owners}
    } | {"parity"}
    prelude = _PRELUDE.format(forbidden=forbidden, arguments=[str(script), *map(str, arguments)])
    done = subprocess.run([sys.executable, "-I", "-c", prelude], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-3000:]


def _closure(package: str) -> set[str]:
    found: set[str] = set()
    waiting = [_canonical(package)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        needed = [requirement for requirement in requirements if "extra ==" not in requirement]
        waiting += [_canonical(re.split(r"[^\w.-]", requirement)[0]) for requirement in needed]
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
