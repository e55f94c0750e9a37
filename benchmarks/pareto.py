"""Draws what codes lose against what they cost, of the results at equal cost: a picture for each network.

    python benchmarks/pareto.py            docs/images/equal-cost-<data set>-<network>-{light,dark}.png

``compare_all.py`` draws them too, once it has run.
"""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.style
import store
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from serving_results import IMAGES, THEMES

from parity.storage.files import written_whole

NETWORKS = (
    ("Digits", "mlp"),
    ("MNIST", "mlp"),
    ("CIFAR10", "small_resnet"),
    ("CIFAR10", "whitened"),
    ("FSDD", "lenet"),
    ("CatVsDog", "small_resnet"),
    ("CIFAR10", "resnet18_gpu"),
)
"""Data sets and base models, in the order in which they are measured."""

_MARKERS = {2: "o", 4: "s", 8: "^"}
_PANELS = {
    "extra multiply-adds, of the base model's for a group": "multiply_adds",
    "extra bytes up, of the queries' own": "bytes_up",
}


class Point(NamedTuple):
    """A code: what it loses, mean over seeds, and what it costs beyond the base model, of a group."""

    k: int
    code: str
    lost: float
    multiply_adds: float
    bytes_up: float


def measured(dataset: str, network: str) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Return what was measured of a network, its seeds, for each k and code."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in (row for name in store.names("equal_cost") for row in store.rows(name)):
        if (row["dataset"], row["network"]) == (dataset, network):
            found.setdefault((row["k"], row["code"]), []).append(row)
    return found


def points(dataset: str, network: str) -> list[Point]:
    """Return the codes that were measured of a network."""
    return [
        Point(
            k, code, statistics.mean(100 * row["loss"]["1"]["value"] for row in rows), rows[0]["extra_multiply_adds"],
            rows[0]["extra_bytes_up"],
        )
        for (k, code), rows in sorted(measured(dataset, network).items())
    ]  # fmt: skip


def front(found: Sequence[Point], cost: str) -> list[Point]:
    """Return the points that no other is better than in both ways, by cost."""
    best: list[Point] = []
    for point in sorted(found, key=lambda point: (getattr(point, cost), point.lost)):
        if not best or point.lost < best[-1].lost:
            best.append(point)
    return best


def draw(dataset: str, network: str) -> None:
    """Draw a network's picture, if there is anything to draw."""
    if not (found := points(dataset, network)):
        return
    colours = dict(zip(sorted({point.code for point in found}), colormaps["tab20"].colors, strict=False))  # type: ignore[attr-defined]
    for theme, style in THEMES.items():
        with matplotlib.style.context(style):
            figure = Figure(figsize=(9.0, 4.2), layout="constrained")
            for axes, (label, cost) in zip(figure.subplots(1, 2, sharey=True), _PANELS.items(), strict=True):
                _panel(axes, found, cost, colours)
                axes.set_xlabel(label, fontsize=9)
            first = figure.axes[0]
            first.set_ylabel("points of accuracy lost")
            figure.legend(*first.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
            figure.suptitle(f"{dataset}, {network}, one prediction missing", fontsize=11)
            with written_whole(IMAGES / f"equal-cost-{dataset}-{network}-{theme}.png") as path:
                figure.savefig(path, format="png", dpi=110)


def _panel(axes: Axes, found: Sequence[Point], cost: str, colours: dict[str, Any]) -> None:
    best = front(found, cost)
    axes.step([getattr(p, cost) for p in best], [p.lost for p in best], "--", where="post", color="tab:gray", lw=0.8)
    for point in found:  # larger ones first: what lies behind another one shows around it
        size = 12 - 0.7 * list(colours).index(point.code)
        axes.plot(
            getattr(point, cost), point.lost, _MARKERS[point.k], color=colours[point.code], markersize=size,
            label=f"{point.code}, k = {point.k}",
        )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_yscale("symlog", linthresh=1.0)
    ticks = [tick for tick in (-5, -2, -1, 0, 1, 2, 5, 10, 20, 50) if tick >= min(0.0, *(p.lost for p in found)) - 1]
    axes.set_yticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()


if __name__ == "__main__":
    for pair in NETWORKS:
        draw(*pair)
