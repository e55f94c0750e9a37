"""The tables of a report in the forms that papers and other programs read: LaTeX, CSV, JSON, Parquet."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from parity.errors import ParityError, did_you_mean
from parity.evaluation.report.tables import (
    Cell,
    Table,
    accuracy_table,
    cost_table,
    csv_text,
    flat_rows,
    overall_table,
    stragglers_table,
)

_LATEX = str.maketrans(
    {
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "−": "$-$", "±": r"$\pm$", "–": "--", "×": r"$\times$",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    }
)  # fmt: skip


def latex(comparison: Mapping[str, Any]) -> str:
    """Return accuracies and costs as LaTeX tables, for the package booktabs."""
    overall = [overall_table(comparison), stragglers_table(comparison)] if comparison["unavailable"] else []
    return "\n".join(map(_latex_table, (accuracy_table(comparison), *overall, cost_table(comparison))))


def _latex_table(table: Table) -> str:
    lines = [
        r"\begin{table}",
        rf"\caption{{{_escaped(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"\toprule",
        " & ".join(map(_escaped, table.head)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_cell, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    return _escaped(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _escaped(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX)


def _csv(comparison: Mapping[str, Any]) -> bytes:
    return csv_text(*flat_rows(comparison)).encode()


def _parquet(comparison: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    _frame(comparison).to_parquet(file, index=False)
    return file.getvalue()


def _json(comparison: Mapping[str, Any]) -> bytes:
    records = [
        {str(name): None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in _frame(comparison).to_dict("records")
    ]
    return (json.dumps(records, indent=2) + "\n").encode()


def _frame(comparison: Mapping[str, Any]) -> Any:
    from parity.evaluation.report.frame import frame_of  # pandas takes a while

    return frame_of(comparison)


TABLES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bytes]]] = {
    "csv": ("results.csv", _csv),
    "latex": ("results.tex", lambda comparison: latex(comparison).encode()),
    "parquet": ("results.parquet", _parquet),
    "json": ("table.json", _json),
}
"""File name and maker of a table, by format."""

FIGURES = ("png", "svg", "pdf")
"""Formats of figures."""


def check_formats(formats: Sequence[str]) -> None:
    """Make sure that these are formats of figures or tables.

    Raises:
        ParityError: one is neither.
    """
    for name in formats:
        if name not in (*FIGURES, *TABLES):
            raise ParityError(f"there is no format '{name}': {did_you_mean(name, [*FIGURES, *TABLES])}")
