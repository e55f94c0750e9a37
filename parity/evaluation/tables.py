"""Accuracies as tables in a terminal."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity import terminal
from parity.evaluation import unavailability
from parity.evaluation.report.tables import code_in_words, loss_in_words
from parity.tasks import measure_name


def show(results: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``run_evaluation`` returned.

    Args:
        results: the numbers.
        console: where to; the terminal by default.
    """
    console = console or _console()
    base = results["base"]
    what = f"{results['dataset']} {results['experiment_name']}, {results['split']} data, {results['weights']}"
    console.print(what, soft_wrap=True)
    console.print(f"base model: {base['in_words']}", soft_wrap=True)
    if "code" not in results:
        return
    code = results["code"]
    named = measure_name(code["measures"][0])
    degraded = code["A_d"].get("1", {}).get(f"overall_{code['measures'][0]}")
    lost = loss_in_words(code["loss"].get("1"), code["A_a"], degraded, code["measures"][0])
    console.print(lost, soft_wrap=True)
    left = f", {code['queries_left_over']} queries left over" if code["queries_left_over"] else ""
    console.print(
        f"code: k = {code['k']}, r = {code['r']}, {code['groups']} groups{left}, A_a {code['A_a']:.4f}, "
        f"always the default prediction {code['floor']:.4f}",
        soft_wrap=True,
    )
    console.print(_degraded_table(code))
    if code["A_o"]:
        title = f"overall {named.short} A_o(f), each output unavailable with probability f"
        table = Table(title=title, title_justify="left")
        for f in code["A_o"]:
            table.add_column(f"f = {f}", justify="right")
        table.add_row(*(f"{value:.4f}" for value in code["A_o"].values()))
        console.print(table)
    console.print(Text(unavailability.text(results["unavailability"])), soft_wrap=True)
    if results.get("wrong"):
        console.print(_wrong_table(results["wrong"], named.short))


def _degraded_table(code: dict[str, Any]) -> Table:
    measures = code["measures"]
    title = f"{measure_name(measures[0]).short} of what is rebuilt when e outputs are missing"
    table = Table(title=title, title_justify="left")
    table.add_column("e")
    table.add_column("against")
    for measure in measures:
        table.add_column(measure, justify="right")
    for position in range(code["k"]):
        table.add_column(f"{measures[0]} at {position}", justify="right")
    for erased, values in code["A_d"].items():
        for against, name in (("true labels (A_d)", "overall"), ("base model", "reconstruction")):
            table.add_row(
                erased,
                against,
                *(f"{values[f'{name}_{measure}']:.4f}" for measure in measures),
                *(f"{value:.4f}" for value in values[f"{name}_{measures[0]}_by_position"]),
            )
    return table


def _wrong_table(rows: list[dict[str, Any]], measure: str) -> Table:
    first = rows[0]
    title = (
        f"wrong outputs: {measure} where each is wrong with probability g, ignored → suspects treated as unavailable; "
        f"false alarms {first['false_alarms']:.1%}, {first['allowed']:.1%} were allowed"
    )
    table = Table(title=title, title_justify="left")
    heads = ("noticed", "noticed, class changed", "found", *(f"g = {users['g']:g}" for users in first["users"]))
    for name in ("fault", *heads):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for row in rows:
        changed = row["detected_where_it_matters"]
        table.add_row(
            row["fault"],
            f"{row['detected']:.1%}",
            "–" if changed is None else f"{changed:.1%}",
            f"{row['located']:.1%}",
            *(f"{users['ignored']:.4f} → {users['acted_on']:.4f}" for users in row["users"]),
        )
    return table


def show_comparison(results: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``run_comparison`` returned: a line for each code.

    Args:
        results: the numbers.
        console: where to; the terminal by default.
    """
    console = console or _console()
    console.print(f"{results['dataset']}, {results['split']} data, base model {results['base']['name']}:", end=" ")
    console.print(results["base"]["in_words"], soft_wrap=True)
    for code in results["codes"]:
        if code["kind"] == "trained":
            console.print(Text(f"{code['name']}: {code_in_words(code, results['measure'])}"), soft_wrap=True)
    table = Table(caption="A_d: one output is missing; A_o(f): each is, with probability f", caption_justify="left")
    for name in (
        "code",
        "(k, r)",
        "workers",
        "multiply-adds",
        "bytes up",
        "A_a",
        "A_a − A_d, paired",
        "A_d",
        "reconstr.",
        *(f"A_o({f:g})" for f in results["unavailable"]),
    ):
        table.add_column(name, justify="left" if name == "code" else "right")
    for code in results["codes"]:
        table.add_row(
            Text(code["name"]),  # no markup
            f"({code['k']}, {code['r']})",
            *(f"{code[name]:+.0%}" for name in ("extra_workers", "extra_multiply_adds", "extra_bytes_up")),
            f"{code['A_a']['value']:.4f}",
            _with_interval(code["loss"]["1"]) if code["loss"] else "–",
            *(_with_spread(code[key]["1"]) if code[key] else "–" for key in ("A_d", "reconstruction")),
            *(f"{overall['value']:.4f}" for overall in code["A_o"].values()),
        )
    console.print(table)
    for line in dict.fromkeys(
        f"{code['name']}: {code['about']}" for code in results["codes"] if "answers_first" in code
    ):
        console.print(Text(line), soft_wrap=True)


def _with_spread(entry: dict[str, float]) -> str:
    return f"{entry['value']:.4f}" + (f" ± {entry['sd']:.4f}" if "sd" in entry else "")


def _with_interval(interval: dict[str, float]) -> str:
    if "sd" in interval:
        return f"{interval['value']:.4f} ± {interval['sd']:.4f}"
    return f"{interval['value']:.4f} ({interval['low']:.4f}–{interval['high']:.4f})"


def _console() -> Console:
    """Return the terminal; where there is none, as in a job's log, lines may be long."""
    return terminal.console() if sys.stdout.isatty() else terminal.console(width=140)
