"""The tables of a report, as cells that a page and a text show alike."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from parity.evaluation.code_evaluation import CORRELATION, SLOW
from parity.tasks import measure_name

NOTHING = "–"

Numbers = Mapping[str, Any]

GROUP_COSTS = {
    "extra_multiply_adds": "extra multiply-adds a group",
    "coding": "of them encoding and decoding",
    "extra_bytes_up": "extra bytes a group, up",
    "extra_bytes_down": "extra bytes a group, down",
}
"""What a group costs beyond its k queries at the base model, and how columns call it."""


class Cell(NamedTuple):
    """What a cell shows, and smaller, what goes with it."""

    text: str
    detail: str = ""


class Table(NamedTuple):
    """A caption, the columns' heads, and rows of as many cells; each row begins with a name."""

    caption: str
    head: tuple[str, ...]
    rows: list[list[Cell]]


def accuracy_table(comparison: Numbers) -> Table:
    """Return what each code rebuilds, by increasing k."""
    codes = by_k(comparison)
    erased = erasures_of(codes)
    head = ["code", "(k, r)", "A_a"]
    for e in erased:
        head += [f"A_a − A_d({e}), paired", f"A_d({e})", f"A_d({e}), worst position", f"reconstruction accuracy ({e})"]
    show = Measure(comparison["measure"])
    return Table(
        f"What each code rebuilds. Accuracies {show.in_words}, with {_spread_in_words(codes)}.",
        (*head, "mean squared error"),
        [_accuracy_row(code, erased, show) for code in codes],
    )


def overall_table(comparison: Numbers) -> Table:
    """Return what users get, by increasing k."""
    codes, show = by_k(comparison), Measure(comparison["measure"])
    return Table(
        f"What users get when each output is unavailable with probability f, {show.in_words}.",
        ("code", "(k, r)", *(f"A_o({f:g})" for f in comparison["unavailable"])),
        [[*_named(code), *(show.cell(at(code["A_o"], f)) for f in comparison["unavailable"])] for code in codes],
    )


def stragglers_table(comparison: Numbers) -> Table:
    """Return what users get where workers are not alike and independent, by increasing k."""
    codes, fs, show = by_k(comparison), comparison["unavailable"], Measure(comparison["measure"])
    return Table(
        f"What users get where one worker, each in turn, is unavailable {SLOW} times as often as the others, and where "
        f"whether workers are unavailable is correlated, by {CORRELATION:g}; {show.in_words}.",
        ("code", "(k, r)", *(f"A_o({f:g}), {name}" for name in ("one slow", "together") for f in fs)),
        [
            [*_named(code), *(Cell(show(at(code["A_o"], f)[name])) for name in ("slow", "together") for f in fs)]
            for code in codes
        ],
    )


def cost_table(comparison: Numbers) -> Table:
    """Return what each code costs, by increasing k."""
    head = ("code", "(k, r)", "extra workers", "extra parameters", "multiply-adds of a parity query")
    return Table(
        "What each code costs. Extra workers in % of k; multiply-adds of a parity query as a multiple of a query's; "
        "what a group costs beyond its k queries at the base model in % of what those cost it.",
        (*head, *GROUP_COSTS.values()),
        list(map(_cost_row, by_k(comparison))),
    )


def by_k(comparison: Numbers) -> list[Numbers]:
    """Return the codes by increasing k."""
    return sorted(comparison["codes"], key=lambda code: int(code["k"]))


def _spread_in_words(codes: Sequence[Numbers]) -> str:
    seeds = max((int(code.get("seeds", 1)) for code in codes), default=1)
    return "95 % confidence intervals" if seeds == 1 else f"± their standard deviation over {seeds} seeds"


def against_table(comparison: Numbers) -> Table:
    """Return by how much each code's A_d is above that of each other code on the same groups."""
    show = Measure(comparison["measure"])
    rows = [
        [Cell(f"{code['name']} ({code['k']}, {code['r']})"), Cell(f"{other['name']} ({other['k']}, {other['r']})"),
         show.cell(other)]
        for code in comparison["codes"]
        for other in code["against"]
    ]  # fmt: skip
    return Table(
        f"A_d of a code less that of another, {show.in_words}, paired over the same coding groups, with 95 % "
        "confidence intervals: where 0 is outside, the codes differ.",
        ("code", "against", "difference of A_d"),
        rows,
    )


def evidence_table(comparison: Numbers) -> Table:
    """Return the share of the evidence for reconstructions that lay on the query itself."""
    rows = [
        [Cell(f"{code['name']} ({code['k']}, {code['r']})"), Cell(form(found["right"], ".2f")),
         Cell(form(found["wrong"], ".2f")), Cell(f"{1 / code['k']:.2f}"), Cell(found["explainer"])]
        for code in comparison["codes"]
        if (found := code.get("evidence"))
    ]  # fmt: skip
    return Table(
        "Share of the positive evidence for the class that was rebuilt that lies on the query itself, a mean over the "
        "first groups: of reconstructions that are right and wrong, and where all queries count alike.",
        ("code", "right", "wrong", "1 / k", "explainer"),
        rows,
    )


def code_in_words(code: Numbers, measure: str) -> str:
    """Return what a code of a comparison loses when a worker is missing, in a sentence."""
    degraded = code["A_d"].get("1", {}).get("value")
    return loss_in_words(code["loss"].get("1"), code["A_a"]["value"], degraded, measure)


def loss_in_words(lost: Numbers | None, a_a: float, a_d: float | None, measure: str) -> str:
    """Return what is lost when a worker is missing, in a sentence.

    Args:
        lost: A_a - A_d with its paired interval; None where nothing is rebuilt.
        a_a, a_d: accuracies.
        measure: name of the first one of the task, e.g. 'top1'.
    """
    if lost is None:
        return f"cannot rebuild a missing prediction: A_a {a_a:.4f}"
    name = measure_name(measure)
    scale, unit, digits = name.scale, name.unit, name.digits
    value, low, high = (scale * lost[key] for key in ("value", "low", "high"))
    does = "loses"
    if high < 0:
        does, value, low, high = "gains", -value, -high, -low
    numbers = [f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−") for number in (value, low, high)]
    if "sd" in lost:
        return (
            f"{does} {numbers[0]} ± {scale * lost['sd']:.{digits}f} {unit} (over seeds) when a worker is missing: "
            f"A_a {a_a:.4f}, A_d {a_d:.4f}"
        )
    return (
        f"{does} {numbers[0]} {unit} ({numbers[1]} to {numbers[2]}, 95 %, paired) when a worker is missing: "
        f"A_a {a_a:.4f}, A_d {a_d:.4f}"
    )


def timing_table(comparison: Numbers) -> Table:
    """Return how long encoding and decoding take."""
    rows = []
    for line in comparison["timing"]:
        encode, decode = line["encode_ms"], line["decode_ms"]
        both = encode + decode if number(encode) is not None and number(decode) is not None else None
        times = (encode, decode, both, line["forward_ms"])
        rows.append([Cell(str(line["name"])), Cell(f"({line['k']}, {line['r']})"), Cell(str(line["G"]))])
        rows[-1] += [Cell(_microseconds(time)) for time in times]
    return Table(
        "Median times in microseconds: encoding and decoding per group when G groups are coded at once, and for "
        "comparison one query's forward pass through the base model.",
        ("code", "(k, r)", "G", "encode", "decode", "both", "forward pass"),
        rows,
    )


def csv_text(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a CSV file's text, in which no spreadsheet takes a name for a formula: such a one has a ' before it."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([head, *(map(_plain_cell, row) for row in rows)])
    return file.getvalue()


def _plain_cell(text: str) -> str:
    try:
        float(text or "0")
    except ValueError:
        return f"'{text}" if text[0] in "=+-@\t\r" else text
    return text


def flat_rows(comparison: Numbers) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows of results.csv: one row for each code, empty where a number is missing."""
    erased = erasures_of(comparison["codes"])
    plain = ("name", "kind", "k", "r", "n", "groups", "queries_left_over", "extra_workers", "extra_parameters")
    columns = [*plain, "multiply_adds", *GROUP_COSTS, "A_a", "A_a_low", "A_a_high"]
    for e in erased:
        columns += [f"loss_{e}{part}" for part in ("", "_low", "_high")]
        columns += [f"A_d_{e}{part}" for part in ("", "_low", "_high", "_worst", "_worst_position")]
        columns += [f"reconstruction_{e}{part}" for part in ("", "_low", "_high")]
    for f in comparison["unavailable"]:
        columns += [f"A_o_{f:g}{part}" for part in ("", "_low", "_high", "_standard_error", "_slow", "_together")]
    rows = []
    for code in comparison["codes"]:
        row = [str(code[column]) for column in plain[:-2]]
        row += [form(code["extra_workers"], ".6f", ""), form(code["extra_parameters"], ".0f", "")]
        row += [form(code[column], ".6g", "") for column in ("multiply_adds", *GROUP_COSTS)]
        row += _parts(code["A_a"], ("value", "low", "high"))
        for e in erased:
            row += _parts(code["loss"].get(str(e)), ("value", "low", "high"))
            row += _parts(code["A_d"].get(str(e)), ("value", "low", "high", "worst"))
            row.append(form((code["A_d"].get(str(e)) or {}).get("worst_position"), ".0f", ""))
            row += _parts(code["reconstruction"].get(str(e)), ("value", "low", "high"))
        for f in comparison["unavailable"]:
            row += _parts(at(code["A_o"], f), ("value", "low", "high", "standard_error", "slow", "together"))
        rows.append([*row, form(code["mse"], ".6g", "")])
    return [*columns, "mse"], rows


def number(value: Any) -> float | None:
    """Return a finite number, or None for whatever is none."""
    return None if value is None or not math.isfinite(value) else float(value)


def form(value: Any, spec: str, nothing: str = NOTHING) -> str:
    """Return a finite number in a format, or what stands for none."""
    finite = number(value)
    return nothing if finite is None else format(finite, spec)


def at(by_f: Mapping[str, Any], f: float) -> Any:
    """Return what a mapping by f, as text, has for a number f; None if nothing."""
    return next((value for key, value in by_f.items() if f"{float(key):g}" == f"{f:g}"), None)


def erasures_of(codes: Sequence[Numbers]) -> list[int]:
    """Return every e for which a code has an A_d(e)."""
    return sorted({int(e) for code in codes for e in code["A_d"]})


class Measure:
    """How accuracies are written: shares in %, others as they are."""

    def __init__(self, name: str) -> None:
        named = measure_name(name)
        self.name, self.in_words = named.name, named.in_words
        self._scale, self._spec = named.scale, ".2f" if named.scale == 100 else f".{named.digits}f"

    def __call__(self, value: Any) -> str:
        """Return an accuracy as text."""
        finite = number(value)
        return form(finite if finite is None else self._scale * finite, self._spec)

    def cell(self, entry: Numbers | None) -> Cell:
        """Return a value with its confidence interval, or with the error of its sampling."""
        if entry is None or number(entry["value"]) is None:
            return Cell(NOTHING)
        text = self(entry["value"])
        if number(entry.get("sd")) is not None:
            return Cell(text, f"± {self(entry['sd'])}")
        if number(entry.get("low")) is not None and number(entry.get("high")) is not None:
            return Cell(text, f"{self(entry['low'])}–{self(entry['high'])}")
        return Cell(text, f"± {self(1.96 * error)}" if (error := number(entry.get("standard_error"))) else "")


def _named(code: Numbers) -> list[Cell]:
    return [Cell(str(code["name"]), code["kind"]), Cell(f"({code['k']}, {code['r']})")]


def _cost_row(code: Numbers) -> list[Cell]:
    row = [Cell(form(100 * code["extra_workers"], ".3g") + " %"), Cell(form(code["extra_parameters"], ",.0f"))]
    row += [Cell(form(code["multiply_adds"], ".3g"))]
    return [*_named(code), *row, *(Cell(form(100 * code[name], ".3g") + " %") for name in GROUP_COSTS)]


def _accuracy_row(code: Numbers, erased: Sequence[int], show: Measure) -> list[Cell]:
    row = [*_named(code), show.cell(code["A_a"])]
    for e in erased:
        degraded = code["A_d"].get(str(e))
        row += [show.cell(code["loss"].get(str(e))), show.cell(degraded)]
        position = degraded and degraded.get("worst_position")
        row.append(Cell(show(degraded["worst"]), f"position {position}") if position is not None else Cell(NOTHING))
        row.append(show.cell(code["reconstruction"].get(str(e))))
    return [*row, Cell(form(code["mse"], ".4g"))]


def _microseconds(milliseconds: Any) -> str:
    finite = number(milliseconds)
    if finite is None:
        return NOTHING
    time = 1e3 * finite
    return format(time, ".3f" if time < 1 else ".1f" if time < 100 else ",.0f")


def _parts(entry: Numbers | None, names: Sequence[str]) -> list[str]:
    return [form((entry or {}).get(name), ".6f", "") for name in names]
