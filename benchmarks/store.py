"""Results: one JSON file for each under ``results/``, of one form, which every table of figures is made from.

``about``     what was measured, in words
``origin``    'measured', by a command here or by others before; or 'published'
``source``    of what no command here makes: who measured or published it
``command``   what makes it; None where it is not known
``config``    hash of the settings of the run, where there is one run
``seeds``     of the runs
``versions``  of what ran (``parity.versions.code_version``); None in results from before they were recorded
``rows``      the figures: a dict for each line, values by name
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.storage.files import write_json
from parity.versions import code_version

RESULTS = Path(__file__).with_name("results")
KEYS = ("about", "origin", "source", "command", "config", "seeds", "versions", "rows")

Row = dict[str, Any]

_CELLS = "serving/"
"""Where ``serving.py`` keeps the cells that it has measured, of which ``serving_*.json`` are made."""


def read(name: str) -> dict[str, Any]:
    """Return a result by its path under ``results/``, without the ending."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return result


def rows(name: str) -> list[Row]:
    """Return the figures of a result."""
    found: list[Row] = read(name)["rows"]
    return found


def names(folder: str = "") -> list[str]:
    """Return the names of all results in a folder of ``results/``, also those in folders of it, not in one of runs."""
    found = (str(path.relative_to(RESULTS).with_suffix("")) for path in (RESULTS / folder).rglob("*.json"))
    return sorted(name for name in found if not name.startswith(_CELLS) and "_runs/" not in name)


def write(name: str, about: str, found: Sequence[Row], *, config: str | None = None, seeds: Sequence[int] = ()) -> None:
    """Keep what the benchmark that runs now has measured."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = (about, "measured", None, command, config, list(seeds), code_version(), list(found))
    write_json(path, dict(zip(KEYS, content, strict=True)))
