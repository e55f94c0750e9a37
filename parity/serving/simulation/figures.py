"""Figures of a sweep: latency against load by policy, drawn without pyplot, so that a notebook stays as it is."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from parity.serving.simulation.sweep import CELL, over_seeds
from parity.storage.files import written_whole

_STYLE = "seaborn-v0_8-whitegrid"
_COLOURS = {
    "none": "tab:gray", "equal": "tab:brown", "replicated": "tab:pink", "hedged": "tab:orange", "backup": "tab:green",
    "coded": "tab:blue", "positional": "tab:olive", "coded_hedged": "tab:purple", "nonsystematic": "tab:cyan",
}  # fmt: skip
_MOST = 6.0
"""Medians up to which latencies are drawn; an overloaded policy would flatten all others."""

_BUT_LOAD = [name for name in CELL if name != "load"]


def figures(rows: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Yield the name and figure of each service and fault: p50, p99 and p99.9 against load."""
    for names, part in over_seeds(rows).groupby(_BUT_LOAD, sort=False):
        workers, k, r, fault, faulty = names
        name = f"m{workers}_k{k}_r{r}_{fault}" + (f"_{faulty:.3g}" if fault != "none" else "")
        yield name, latency_against_load(part, f"m = {workers}, k = {k}, r = {r}, {fault}")


def latency_against_load(medians: pd.DataFrame, title: str) -> Figure:
    """Draw a panel for each percentile, a line for each policy, bands from the lowest to the highest seed."""
    measures = ("p50", "p99", "p99.9")
    top = _MOST * float(medians["p50"].min())
    with matplotlib.style.context(_STYLE):
        figure = Figure(figsize=(10.5, 3.4), layout="constrained")
        figure.suptitle(title, fontsize=11)
        for axes, measure in zip(figure.subplots(1, len(measures), sharex=True), measures, strict=True):
            for policy, part in medians.groupby("policy", sort=False):
                colour = _COLOURS[str(policy)]
                axes.plot(part["load"], part[measure], ".-", label=policy, color=colour)
                if f"{measure} from" in part:
                    axes.fill_between(
                        part["load"], part[f"{measure} from"], part[f"{measure} to"], color=colour, alpha=0.15, lw=0
                    )
            axes.set(title=measure, xlabel="load of the base pool", ylim=(0, top))
        figure.axes[0].set_ylabel("latency, ms")
        figure.axes[-1].legend(fontsize=8)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and as SVG."""
    for kind in ("png", "svg"):
        with written_whole(folder / f"{name}.{kind}") as path:
            figure.savefig(path, format=kind, dpi=150)
