"""Why a code: the accuracy that users get against the share of unavailable outputs, as lines, in a terminal, as PNG.

Where a share f of outputs is unavailable, each independently, users get

- without redundancy (1 − f)·A_a + f·A_0, where A_0 is the accuracy of the default prediction,
- with each query on two workers (1 − f²)·A_a + f²·A_0,
- with a code A_o(f), which to first order is (1 − f)·A_a + f·A_d.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

from parity.evaluation.code_evaluation import CodeEvaluation
from parity.storage.files import written_whole
from parity.tasks import measure_name

SHARES = tuple(round(0.02 * step, 2) for step in range(16))
_LOOKS = {"no redundancy": (".", "#777777", ":"), "replication": ("o", "#D55E00", "--"), "code": ("#", "#0072B2", "-")}
_ROWS, _COLUMNS_EACH = 11, 3


def lines(evaluation: CodeEvaluation, shares: Sequence[float] = SHARES) -> dict[str, Any]:
    """Return the three lines: 'measure', 'shares', and by name 'workers' of a query and 'accuracy' at each share."""
    base, default = evaluation.a_a, evaluation.floor
    each = {
        "no redundancy": (1.0, [(1 - f) * base + f * default for f in shares]),
        "replication": (2.0, [(1 - f**2) * base + f**2 * default for f in shares]),
        "code": (evaluation.n / evaluation.k, [evaluation.overall_accuracy(f) for f in shares]),
    }
    found = {name: {"workers": workers, "accuracy": accuracy} for name, (workers, accuracy) in each.items()}
    measure = measure_name(evaluation.measures[0]).short
    return {"measure": measure, "shares": list(shares), "lines": found}


def text(drawn: Mapping[str, Any]) -> str:
    """Draw the lines in characters; where two meet the code's is in front."""
    named = drawn["lines"]
    values = [value for line in named.values() for value in line["accuracy"]]
    low, high = min(values), max(values)
    step = (high - low) / (_ROWS - 1) or 1.0
    cells = [[" "] * (_COLUMNS_EACH * len(drawn["shares"])) for _ in range(_ROWS)]
    for name, (mark, *_) in _LOOKS.items():
        for column, value in enumerate(named[name]["accuracy"]):
            cells[round((high - value) / step)][_COLUMNS_EACH * column] = mark
    rows = [f"{high - step * row:.3f} │ {''.join(line).rstrip()}" for row, line in enumerate(cells)]
    every = drawn["shares"][:: len(drawn["shares"]) // 3]
    shares = "".join(f"{f:<{_COLUMNS_EACH * (len(drawn['shares']) // 3)}.0%}" for f in every).rstrip()
    axis = f"      └{'─' * (_COLUMNS_EACH * len(drawn['shares']))}\n        {shares} of outputs unavailable"
    legend = "   ".join(f"{_LOOKS[name][0]} {_label(name, line)}" for name, line in named.items())
    return "\n".join([f"{drawn['measure']} of what users get", *rows, axis, f"        {legend}"])


def write_png(drawn: Mapping[str, Any], path: Path) -> None:
    """Draw the lines as a PNG file."""
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained", dpi=160)
        axes = figure.subplots()
        for name, line in drawn["lines"].items():
            _, colour, style = _LOOKS[name]
            axes.plot(drawn["shares"], line["accuracy"], style, color=colour, linewidth=2, label=_label(name, line))
        axes.set(xlabel="share of unavailable outputs", ylabel=f"{drawn['measure']} of what users get")
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        with written_whole(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def _label(name: str, line: Mapping[str, Any]) -> str:
    return f"{name}, {line['workers']:.3g} workers a query" if line["workers"] > 1 else name
