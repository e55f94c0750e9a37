"""The catalogue as a table: what each experiment is, what it has reached, and whether it is trained here."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from parity.experiments import catalogue
from parity.experiments.config import Config, to_plain
from parity.training.loop.run_folder import RunFolder

MEASURED = "measured.json"
"""A_a and A_d by data set and experiment, which ``benchmarks/tables.py`` takes from the results."""

_COLUMNS = {"experiment": "left", "collection": "left", "k": "right", "r": "right", "encoder": "left"}


def rows(dataset: str | None, base_directory: Path) -> list[dict[str, Any]]:
    """Return a row for each experiment.

    Args:
        dataset: its name; None for all.
        base_directory: root folder of the runs.

    Raises:
        ParityError: there is no such data set.
    """
    measured = json.loads((files(__package__) / MEASURED).read_text())
    nothing = {"A_a": None, "A_d": None}
    return [
        {
            "dataset": entry.dataset,
            "collection": entry.collection,
            "experiment": entry.name,
            **_code(entry.config),
            **nothing,
            **measured.get(entry.dataset, {}).get(entry.name, {}),
            "trained": _trained(base_directory / entry.dataset / entry.collection / entry.name),
        }
        for name in ([dataset] if dataset else catalogue.datasets())
        for entry in catalogue.experiments(name)
    ]


def _code(config: Config) -> dict[str, Any]:
    """Return k, r and the encoder's name; None for a base model."""
    if "code" not in config:
        return {"k": None, "r": None, "encoder": None}
    code = config["code"]
    encoder = getattr(code["encoder"], "func", code["encoder"])  # a coder with arguments is a functools.partial
    return {"k": code["k"], "r": code["r"], "encoder": getattr(encoder, "__name__", str(to_plain(encoder)))}


def _reached(row: dict[str, Any]) -> str:
    """Return what a code rebuilds with, or what a base model has."""
    name = "A_d" if row["k"] else "A_a"
    return "" if row[name] is None else f"{name} {row[name]:.4f}"


def _trained(folder: Path) -> bool:
    return RunFolder.of_experiment(folder).is_finished()


def show(found: Sequence[dict[str, Any]], console: Console) -> None:
    """Print the rows, a table for each data set, as wide as the terminal."""
    for dataset in dict.fromkeys(row["dataset"] for row in found):
        table = Table(title=dataset, title_justify="left")
        for name, justify in _COLUMNS.items():
            whole = name == "experiment"  # what is copied into the next command
            table.add_column(name, justify=justify, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
        table.add_column("measured", justify="right")
        table.add_column("trained")
        for row in (row for row in found if row["dataset"] == dataset):
            cells = ["" if row[name] is None else str(row[name]) for name in _COLUMNS]
            table.add_row(*cells, _reached(row), "yes" if row["trained"] else "")
        console.print(table)
