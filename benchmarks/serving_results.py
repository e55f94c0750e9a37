"""The comparison of policies in short, for the docs: results of the one form, tables and figures.

``python benchmarks/serving.py --show`` makes them of the cells that were measured, and fills the page.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
import store
from matplotlib.figure import Figure

from parity.serving.simulation import choice, sweep
from parity.storage.files import written_whole

Row = dict[str, Any]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NOT_YET = "Not measured yet: `python benchmarks/serving.py`."

_ARMS = {
    "none": "no redundancy", "equal": "equal resources", "hedged": "hedged", "backup": "cheap backup", "coded": "coded",
    "positional": "positional code",
}  # fmt: skip
_COLOURS = {
    "none": "tab:gray", "equal": "tab:brown", "hedged": "tab:orange", "backup": "tab:green", "coded": "tab:blue",
    "positional": "tab:olive",
}  # fmt: skip
THEMES = {"light": "default", "dark": "dark_background"}
"""Of pictures, and matplotlib's style for each."""

_SHOWN = (8, 96)
"""Base workers of the simulated clusters that the page has a table of."""


def keep_simulated(rows: Sequence[Row]) -> None:
    """Keep, of simulated rows, p99 and p99.9 of the best policy and of coding over hedging, by cell."""
    table = sweep.table(rows)
    found = []
    for measure in ("p99", "p99.9"):
        best = choice.best(table, measure).set_index(list(sweep.CELL))
        for row in sweep.ratios(table, "coded", "hedged", measure).to_dict("records"):
            cell = {name: row[name] for name in sweep.CELL}
            lowest = best.loc[tuple(cell.values())]
            spread = {name: round(row[name], 3) for name in ("ratio", "from", "to")}
            best_of_all = {"best": lowest["policy"], "value": round(lowest[measure], 1)}
            found.append({**cell, "measure": measure, **best_of_all, **spread})
    store.write(
        "serving_simulated",
        "Simulated clusters: which policy has the lowest percentile, and coded over hedged, over all seeds",
        found,
        seeds=sorted({row["seed"] for row in rows}),
    )


def keep_pools(rows: Sequence[Row], ratios: Sequence[Row], seeds: Sequence[int]) -> None:
    """Keep what was measured on real pools: medians over the repeats, and medians of ratios."""
    about = "Real pools, workers that sleep for 100 ms: medians of the repeats"
    store.write("serving_pools", about, rows, seeds=seeds)
    store.write("serving_ratios", f"{about}, of the ratios within each", ratios, seeds=seeds)


def keep_validation(rows: Sequence[Row]) -> None:
    """Keep what the simulator was held against."""
    store.write("serving_validation", "p99 / p50 on real pools, and simulated with their service times", rows)


def pools_table() -> str:
    """Return the table of what was measured on real pools."""
    lines = [
        [row["engine"], str(row["k"]), f"{row['load']:.0%}", row["fault"], _ARMS[row["arm"]],
         *(f"{row[name]:.0f}" for name in ("p50", "p99", "p99.5", "p99.9")), f"{row['rebuilt']:.1%}",
         f"{row['accuracy']:.4f}", f"{row['work']:.2f}"]
        for row in _rows("serving_pools")
    ]  # fmt: skip
    heads = ["engine", "k", "load", "fault", "policy", "p50", "p99", "p99.5", "p99.9", "rebuilt", "accuracy"]
    return _table([*heads, "tasks sent a query"], lines)


def ratios_table() -> str:
    """Return the table of the ratios that were to be reached, and of those to hedging."""
    lines = [
        [row["engine"], str(row["k"]), f"{row['load']:.0%}", row["fault"], row["ratio"], f"{row['median']:.2f}",
         _reach(row), str(row["runs"])]
        for row in _rows("serving_ratios")
        if row["at_most"] is not None or row["ratio"].endswith("hedged")
    ]  # fmt: skip
    return _table(["engine", "k", "load", "fault", "ratio of coded", "median", "at most", "repeats"], lines)


def simulated_table(measure: str) -> Callable[[], str]:
    """Return the maker of the table of the best policies at each load, with coded over hedged."""

    def table() -> str:
        rows = [row for row in _rows("serving_simulated") if row["measure"] == measure and row["workers"] in _SHOWN]
        loads = sorted({row["load"] for row in rows})
        lines: dict[tuple[str, ...], dict[float, str]] = {}
        for row in rows:
            head = (str(row["workers"]), str(row["k"]), row["fault"])
            lines.setdefault(head, {})[row["load"]] = f"{_ARMS[row['best']]} {row['value']:.0f}, {row['ratio']:.2f}"
        heads = ["m", "k", "fault", *(f"{load:.0%}" for load in loads)]
        return _table(heads, [[*head, *(by.get(load, "–") for load in loads)] for head, by in lines.items()])

    return table


def rule_table() -> str:
    """Return up to which load coding has the lower percentile with every seed, and from which hedging has."""
    frame = pd.DataFrame(_rows("serving_simulated"))
    lines = []
    for names, part in frame.groupby(["measure", "fault", "k"], sort=False) if len(frame) else ():
        loads = sorted(part["load"].unique())
        by_load = {load: part[part["load"] == load] for load in loads}
        coded = [load for load in loads if (by_load[load]["to"] < 1).all()]
        hedged = [load for load in loads if (by_load[load]["from"] > 1).all()]
        measure, fault, k = names
        lines.append([fault, str(k), measure, _loads(coded), _loads(hedged)])
    return _table(["fault", "k", "percentile", "coded is lower at every size", "hedged is"], lines)


def validation_table() -> str:
    """Return the table of the simulator beside real pools."""
    lines = [
        [row["workers"], f"{row['load']:.0%}", _ARMS[row["arm"]], row["fault"], f"{row['p50']:.0f}",
         f"{row['measured']:.2f}", f"{row['simulated']:.2f}", f"{row['off']:+.0%}"]
        for row in _rows("serving_validation")
    ]  # fmt: skip
    heads = ["workers", "load", "policy", "fault", "p50, ms", "p99 / p50 measured", "simulated", "off"]
    return _table(heads, lines)


def figures(pattern: str, alt: str, not_yet: str = NOT_YET) -> Callable[[], str]:
    """Return the maker of the pictures of a name, in light and in dark, as far as they are drawn."""

    def pictures() -> str:
        light = sorted(IMAGES.glob(f"{pattern}-light.png"))
        return "\n\n".join(
            f"```{{image}} images/{path.name.replace('light', theme)}\n:class: only-{theme}\n:alt: {alt}\n```"
            for path in light
            for theme in THEMES
        ) or not_yet  # fmt: skip

    return pictures


TABLES: dict[str, Callable[[], str]] = {
    "serving_pools_figure": figures(
        "serving-k*",
        "Bars of p99 and p99.9 over p50 for each policy, in groups by fault, a panel for each load; the table below "
        "has the same figures.",
    ),
    "serving_simulated_figure": figures(
        "serving-simulated",
        "Lines of the p99 and p99.9 of coded service over those of hedged requests, against load, a panel for each "
        "fault and a line for each k; the tables below have the same figures.",
    ),
    "serving_pools": pools_table,
    "serving_ratios": ratios_table,
    "serving_rule": rule_table,
    "serving_simulated_p99": simulated_table("p99"),
    "serving_simulated_p99.9": simulated_table("p99.9"),
    "serving_validation": validation_table,
}


def draw_pools() -> None:
    """Draw, of what was measured on threads, p99 and p99.9 over p50 without redundancy, by fault, policy and load."""
    rows = [row for row in _rows("serving_pools") if row["engine"] == "threads"]
    for k in sorted({row["k"] for row in rows}):
        part = [row for row in rows if row["k"] == k]
        for theme, style in THEMES.items():
            with matplotlib.style.context(style):
                figure = _bars(part, f"k = {k}, 100 ms workers")
            _save(figure, f"serving-k{k}-{theme}.png")


def _bars(rows: Sequence[Row], title: str) -> Figure:
    """Return a panel for each load: groups of bars, a group for each fault."""
    loads, faults = sorted({row["load"] for row in rows}), list(dict.fromkeys(row["fault"] for row in rows))
    figure = Figure(figsize=(9.0, 3.2 * len(loads)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, load in zip(figure.subplots(len(loads), 1, squeeze=False)[:, 0], loads, strict=True):
        here = {(row["fault"], row["arm"]): row for row in rows if row["load"] == load}
        arms = list(dict.fromkeys(arm for _, arm in here))
        for index, arm in enumerate(arms):
            found = [(place, here[fault, arm]) for place, fault in enumerate(faults) if (fault, arm) in here]
            xs = [place + (index - (len(arms) - 1) / 2) * 0.8 / len(arms) for place, _ in found]
            for measure, alpha in (("p99.9", 0.4), ("p99", 1.0)):
                heights = [row[measure] / row["p50"] for _, row in found]
                label = _ARMS[arm] if measure == "p99" else None
                axes.bar(xs, heights, 0.8 / len(arms), color=_COLOURS[arm], alpha=alpha, label=label)
        axes.set(title=f"{load:.0%} load", ylabel="p99, and pale p99.9, over p50", xticks=range(len(faults)))
        axes.set_xticklabels(faults)
        axes.set_yscale("log", base=2)
        axes.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axes.set_ylim(bottom=1)
    figure.axes[0].legend(fontsize=8, ncols=5, loc="upper left")
    return figure


def draw_simulated() -> None:
    """Draw coded over hedged against load, by fault: a line for each k, a band over sizes and seeds."""
    frame = pd.DataFrame(_rows("serving_simulated"))
    if not len(frame):
        return
    faults = list(dict.fromkeys(frame["fault"]))
    for theme, style in THEMES.items():
        with matplotlib.style.context(style):
            figure = Figure(figsize=(9.0, 5.2), layout="constrained")
            columns = min(3, len(faults))
            panels = figure.subplots(-(-len(faults) // columns), columns, squeeze=False, sharey=True).flatten()
            for axes, fault in zip(panels, faults, strict=False):
                for (k, measure), part in frame[frame["fault"] == fault].groupby(["k", "measure"]):
                    by_load = part.groupby("load")
                    style_of = "-" if measure == "p99" else ":"
                    line = by_load["ratio"].median()
                    (drawn,) = axes.plot(line.index, line, style_of, color=f"C{[2, 4, 8].index(k)}")
                    drawn.set_label(f"k = {k}, {measure}")
                    axes.fill_between(line.index, by_load["from"].min(), by_load["to"].max(),
                                      color=drawn.get_color(), alpha=0.1, lw=0)  # fmt: skip
                axes.axhline(1.0, color="tab:red", lw=0.8)
                axes.set(title=fault, xlabel="load of the base pool", ylim=(0.3, 2.0))
            figure.axes[0].set_ylabel("coded / hedged")
            figure.axes[0].legend(fontsize=7)
        _save(figure, f"serving-simulated-{theme}.png")


def _save(figure: Figure, name: str) -> None:
    with written_whole(IMAGES / name) as path:
        figure.savefig(path, format="png", dpi=110)


def _rows(name: str) -> list[Row]:
    """Return the rows of a result; none if it was not measured."""
    return store.rows(name) if (store.RESULTS / f"{name}.json").exists() else []


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    found = [list(head), ["---"] * len(head), *map(list, lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in found) if len(found) > 2 else NOT_YET


def _reach(row: Row) -> str:
    if row["at_most"] is None:
        return "–"
    return f"{row['at_most']}{'' if row['median'] <= row['at_most'] else ', missed'}"


def _loads(loads: Sequence[float]) -> str:
    return ", ".join(f"{load:.0%}" for load in loads) or "–"
