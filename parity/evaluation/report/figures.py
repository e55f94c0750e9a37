"""Figures of a comparison, as PNG files: deterministic, and drawn without pyplot, so that a notebook stays as it is."""

import io
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import zip_longest
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from parity.tasks import measure_name

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")  # Okabe and Ito, without yellow
MARKERS = "osD^vP*X"
WIDTH = 4.2
DOTS_PER_INCH = 160
MOST_CLASSES = 20
"""Up to this many classes all are shown; of more, the worst."""
MOST_GROUPS = 4
MOST_TILES_IN_A_ROW = 5
_TINY = 1e-12
TILE = 0.88
"""The side of a tile's picture, in tiles."""
STYLE: dict[str, Any] = {
    "text.parse_math": False,  # names are not formulas
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "savefig.dpi": DOTS_PER_INCH,
    "svg.hashsalt": "parity",  # else the ids of an SVG file's parts are others every time
}

Code = Mapping[str, Any]


class Picture(NamedTuple):
    """A drawn figure: the stem of its files' names, what it shows in a sentence or two, its files' bytes by format."""

    stem: str
    caption: str
    files: Mapping[str, bytes]

    @property
    def png(self) -> bytes:
        """The PNG file's bytes."""
        return self.files["png"]

    @property
    def width(self) -> int:
        """How wide a page shows it where there is room, in CSS pixels."""
        return int.from_bytes(self.png[16:20], "big") * 120 // DOTS_PER_INCH


LineStyle = Literal["-", "--"]


class Look(NamedTuple):
    """How the codes of a family are drawn, in all figures."""

    colour: str
    marker: str
    line: LineStyle


_UNDATED: Mapping[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Metadata without what differs from one day or machine to the next."""

_formats: ContextVar[Sequence[str]] = ContextVar("formats", default=("png",))


@contextmanager
def drawn_as(formats: Sequence[str]) -> Iterator[None]:
    """Within this block figures are also drawn in these formats, beside PNG."""
    before = _formats.set([kind for kind in formats if kind in _UNDATED])
    try:
        yield
    finally:
        _formats.reset(before)


def pictures_of_all(comparison: Mapping[str, Any]) -> list[Picture]:
    """Draw what compares codes with each other: A_o against f, A_d against k, A_d of each class."""
    with _style():
        return [*_overall(comparison), *_degraded_against_k(comparison), *_degraded_by_class(comparison)]


def pictures_of_code(comparison: Mapping[str, Any], index: int) -> list[Picture]:
    """Draw what there is about one code: confusions, calibration, groups; those that it has."""
    code = comparison["codes"][index]
    stem = _stem(comparison, index)
    drawn = []
    with _style():
        if code.get("confusion") is not None:
            drawn.append(_confusions(code, comparison["classes"], f"confusions_{stem}"))
        if code.get("calibration") is not None and sum(code["calibration"]["count"]):
            drawn.append(_calibration(code, f"calibration_{stem}"))
        if code.get("panel"):
            drawn.append(_panel(code, f"groups_{stem}"))
    return drawn


def picture_of_evidence(comparison: Mapping[str, Any], index: int) -> Picture | None:
    """Draw where the evidence for a right and for a wrong reconstruction lay; None where that is not known."""
    code = comparison["codes"][index]
    if not code.get("evidence"):
        return None
    with _style():
        return _evidence(code, f"evidence_{_stem(comparison, index)}")


def _stem(comparison: Mapping[str, Any], index: int) -> str:
    return f"{index + 1:02d}_{re.sub(r'[^A-Za-z0-9-]+', '_', comparison['codes'][index]['name'])[:60]}"


def families(codes: Sequence[Code]) -> list[tuple[str, list[Code]]]:
    """Put together what is one code at several k, as (label, codes by increasing k), in order of first appearance.

    Configs name it <network>_k<k>_<code>, alternatives have one name for all k. Where there are several r for one k,
    each r is a family.
    """
    by_name: dict[str, list[Code]] = defaultdict(list)
    for code in codes:
        swept = re.sub(rf"_k\d+(?![0-9])(.*)-code\.k={code['k']}(?![0-9])", r"\1", code["name"], count=1)
        by_name[re.sub(rf"_k{code['k']}(?![0-9])", "", swept, count=1)].append(code)
    found: list[tuple[str, list[Code]]] = []
    for name, members in by_name.items():
        if len({code["k"] for code in members}) == len(members):
            found.append((name if len(members) > 1 else members[0]["name"], members))
        else:
            found += [
                (f"{name}, r = {r}", [code for code in members if code["r"] == r])
                for r in sorted({code["r"] for code in members})
            ]
    return [(label, sorted(members, key=lambda code: code["k"])) for label, members in found]


def _style() -> Any:
    return matplotlib.style.context(["default", STYLE])


def _picture(figure: Figure, stem: str, caption: str) -> Picture:
    files = {}
    for kind in dict.fromkeys(("png", *_formats.get())):
        file = io.BytesIO()
        figure.savefig(file, format=kind, metadata=_UNDATED[kind])
        files[kind] = file.getvalue()
    return Picture(stem, caption, files)


def _looks(codes: Sequence[Code]) -> dict[int, Look]:
    """Return the look of each code, by ``id``."""
    looks = {}
    for index, (_, members) in enumerate(families(codes)):
        line: LineStyle = "-" if members[0]["kind"] == "trained" else "--"
        look = Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], line)
        looks.update({id(code): look for code in members})
    return looks


def _line(look: Look) -> dict[str, Any]:
    """Return how a line through points is drawn."""
    return dict(color=look.colour, linestyle=look.line, marker=look.marker, markersize=4, linewidth=1.4)


def _label(code: Code, among: Sequence[Code]) -> str:
    """Return a code's name, with its r where there are several of that name."""
    several = sum(other["name"] == code["name"] for other in among) > 1
    return f"{code['name']}, r = {code['r']}" if several else str(code["name"])


def _short(text: str, most: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _scale(comparison: Mapping[str, Any]) -> tuple[float, str]:
    """Return what measures are multiplied by, and the unit on the axes."""
    name = measure_name(comparison["measure"])
    return name.scale, name.on_axes


def _line_axes(legend: Sequence[tuple[str, Look]]) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes and, below them, a line of legend for each label."""
    height, below = 2.7, 0.55 + 0.19 * len(legend)
    figure = Figure(figsize=(WIDTH, height + below))
    axes = figure.add_axes((0.15, below / (height + below), 0.83, (height - 0.15) / (height + below)))
    for row, (label, look) in enumerate(legend):
        y = (below - 0.55 - 0.19 * row) / (height + below)
        figure.add_artist(
            Line2D([0.03, 0.09], [y, y], color=look.colour, linestyle=look.line, marker=look.marker, markersize=4)
        )
        figure.text(0.11, y, _short(label, 52), va="center", fontsize=8.5)
    return figure, axes


def _overall(comparison: Mapping[str, Any]) -> list[Picture]:
    """A_o against f: one figure for each k, all on the same scale."""
    codes = [code for code in comparison["codes"] if code["A_o"]]
    looks, (scale, unit) = _looks(comparison["codes"]), _scale(comparison)
    values = [scale * point["value"] for code in codes for point in code["A_o"].values()]
    drawn = []
    for k in sorted({code["k"] for code in codes}):
        of_k = [code for code in codes if code["k"] == k]
        figure, axes = _line_axes([(_label(code, of_k), looks[id(code)]) for code in of_k])
        for code in of_k:
            points = sorted((float(f), point) for f, point in code["A_o"].items())
            axes.errorbar(
                [f for f, _ in points],
                [scale * point["value"] for _, point in points],
                yerr=[scale * point.get("sd", 1.96 * (point["standard_error"] or 0.0)) for _, point in points],
                **_line(looks[id(code)]),
            )
        margin = 0.05 * (max(values) - min(values)) or 0.01 * scale
        axes.set_ylim(min(values) - margin, max(values) + margin)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("f, probability that an output is unavailable")
        axes.set_ylabel(f"A_o(f), overall accuracy ({unit})")
        caption = f"A_o against f, k = {k}: overall accuracy when each output is unavailable with probability f."
        drawn.append(_picture(figure, f"overall_k{k}", caption))
    return drawn


def _degraded_against_k(comparison: Mapping[str, Any]) -> list[Picture]:
    codes = [code for code in comparison["codes"] if "1" in code["A_d"]]
    if not codes:
        return []
    looks, (scale, unit) = _looks(comparison["codes"]), _scale(comparison)
    groups = families(codes)
    figure, axes = _line_axes([(label, looks[id(members[0])]) for label, members in groups])
    for index, (_, members) in enumerate(groups):
        points = [code["A_d"]["1"] for code in members]
        value = np.array([point["value"] for point in points])
        aside = 0.16 * ((index + 0.5) / len(groups) - 0.5)  # so that intervals stand side by side
        axes.errorbar(
            [code["k"] + aside for code in members],
            scale * value,
            yerr=scale
            * np.clip([[v - p["low"], p["high"] - v] for v, p in zip(value, points, strict=True)], 0, None).T,
            capsize=2,
            **_line(looks[id(members[0])]),
        )
    axes.set_xticks(ks := sorted({code["k"] for code in codes}))
    axes.set_xlim(ks[0] - 0.5, ks[-1] + 0.5)
    axes.set_xlabel("k, queries in a coding group")
    axes.set_ylabel(f"A_d, degraded-mode accuracy ({unit})")
    return [_picture(figure, "degraded_against_k", f"A_d against k, with {_spread_in_words(codes)}.")]


def _spread_in_words(codes: Sequence[Code]) -> str:
    """Return what the bars of A_d are: of some codes deviations over seeds, of others, as baselines, intervals."""
    interval, deviation = "95 % confidence intervals", "standard deviations over seeds"
    over_seeds = {"sd" in code["A_d"]["1"] for code in codes}
    if over_seeds == {True}:
        return f"± {deviation}"
    return f"± {deviation}, or of codes without seeds {interval}" if True in over_seeds else interval


def _degraded_by_class(comparison: Mapping[str, Any]) -> list[Picture]:
    """A_d(1) of each class, or of the worst, as a heat map of codes and classes."""
    codes = [code for code in comparison["codes"] if code.get("per_class") is not None]
    if not codes:
        return []
    values = np.array([code["per_class"] for code in codes], dtype=float) * 100
    names = _class_names(comparison["classes"], values.shape[1])
    caption = "A_d of each true class (%)."
    if values.shape[1] > MOST_CLASSES:
        order = np.argsort(np.nan_to_num(values, nan=100.0).mean(0), kind="stable")[:MOST_CLASSES]
        values, names = values[:, order], [names[index] for index in order]
        caption = f"A_d of the {MOST_CLASSES} true classes for which it is lowest, in the mean over codes (%)."
    labels = [f"{_short(code['name'], 34)} ({code['k']}, {code['r']})" for code in codes]
    left = 0.2 + 0.062 * max(map(len, labels))
    tall = 0.45 + 0.07 * max(map(len, names))
    width = max(WIDTH, left + 0.4 * len(names) + 0.1)
    height = tall + 0.28 * len(codes) + 0.1
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, tall / height, 1 - (left + 0.1) / width, 1 - (tall + 0.1) / height))
    _heat_map(axes, values, float(np.nanmin(values)), 100.0, "Blues", "{:.0f}".format)
    axes.set_yticks(range(len(codes)), labels, fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_xlabel("true class")
    return [_picture(figure, "degraded_by_class", caption)]


def _class_names(classes: Sequence[str] | None, count: int) -> list[str]:
    return [_short(name, 18) for name in classes or map(str, range(count))]


def _heat_map(
    axes: Axes, values: np.ndarray, low: float, high: float, colours: str, form: Callable[[float], str]
) -> None:
    """Draw a matrix with its numbers; what is not finite stays grey and without one."""
    axes.set_facecolor("#eeeeee")
    axes.imshow(values, cmap=colours, vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            share = (value - low) / max(high - low, 1e-9)
            colour = "white" if share > 0.5 else "#222222"
            axes.text(column, row, form(value), ha="center", va="center", fontsize=7, color=colour)


def _confusions(code: Code, classes: Sequence[str] | None, stem: str) -> Picture:
    """The matrix of shares for few classes, the strongest confusions for many."""
    counts = np.array(code["confusion"], dtype=float)
    names = _class_names(classes, len(counts))
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, 100 * counts / np.maximum(total, 1), np.nan)
    np.fill_diagonal(share, np.nan)
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    if len(counts) > MOST_CLASSES:
        order = np.argsort(np.nan_to_num(share), axis=None, kind="stable")[::-1][:15]
        pairs = [divmod(int(index), len(counts)) for index in order]
        axes.barh(range(len(pairs)), [share[pair] for pair in pairs], color=COLOURS[0], height=0.7)
        axes.set_yticks(range(len(pairs)), [f"{names[true]} → {names[rebuilt]}" for true, rebuilt in pairs], fontsize=8)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("% of the true class")
        return _picture(figure, stem, "Strongest confusions: true class → class of the reconstruction.")
    digits = 1 if len(counts) < 12 else 0
    highest = float(np.nanmax(share, initial=0.0))
    _heat_map(axes, share, 0.0, highest, "Blues", lambda value: f"{value:.{digits}f}" if value else "")
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("class of the reconstruction")
    axes.set_ylabel("true class")
    return _picture(figure, stem, "Confusions: % of a true class that is rebuilt as another one.")


def _calibration(code: Code, stem: str) -> Picture:
    """Accuracy against confidence, of reconstructions and of the base model, over how many have it."""
    table = code["calibration"]
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1.2)
    for label, bins, colour, marker in (
        ("base model", table["base"], "#777777", "s"), ("rebuilt", table, COLOURS[0], "o"),
    ):  # fmt: skip
        filled = np.array(bins["count"]) > 0
        confidence, accuracy = (np.array(bins[name], dtype=float)[filled] for name in ("confidence", "accuracy"))
        upper.plot(confidence, accuracy, color=colour, marker=marker, markersize=4.5, linewidth=1.4, label=label)
    upper.legend(loc="upper left")
    upper.set_ylabel("accuracy")
    upper.set_ylim(-0.03, 1.03)
    count = np.array(table["count"], dtype=float)
    lower.bar((np.arange(len(count)) + 0.5) / len(count), count / count.sum(), width=0.9 / len(count), color="#8fb8d6")
    lower.set_ylabel("share")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    caption = (
        f"Calibration against true labels; expected calibration error {table['error']:.3f} of reconstructions, "
        f"{table['base']['error']:.3f} of the base model. Dotted: accuracy equals confidence."
    )
    return _picture(figure, stem, caption)


def _panel(code: Code, stem: str) -> Picture:
    """Groups of tiles, a line between them: queries with their predictions, then parity queries."""
    groups = code["panel"][:MOST_GROUPS]
    count = max(len(group["queries"]) + len(group["parity_queries"]) for group in groups)
    columns = max(3, math.ceil(count / math.ceil(count / MOST_TILES_IN_A_ROW)))
    line = 0.118 * columns / WIDTH  # of text, where a tile is one wide
    tiles = [_tiles(group, 66 // columns) for group in groups]
    tall = 0.06 + line * (2 + max(len(tile.lines) for group in tiles for tile in group)) + TILE
    height = sum(tall * math.ceil(len(group) / columns) for group in tiles)
    figure = Figure(figsize=(WIDTH, WIDTH * height / columns))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 0.0
    for group in tiles:
        if top:
            axes.plot([0, columns], [top, top], color="#cccccc", linewidth=0.8)
        for index, tile in enumerate(group):
            _draw_tile(axes, tile, index % columns, top + tall * (index // columns), line)
        top += tall * math.ceil(len(group) / columns)
    axes.set_xlim(0, columns)
    axes.set_ylim(height, 0)
    caption = (
        "Groups of the data: queries, then parity queries, with what base model, parity model and decoder predict."
    )
    return _picture(figure, stem, f"{caption} A frame and ✗ mark reconstructions that are wrong.")


def _evidence(code: Code, stem: str) -> Picture:
    """For each example a row of queries, and below it attributions: red for what was rebuilt, blue against it."""
    examples = code["evidence"]["examples"]
    columns = max(4, code["k"])
    figure = Figure(figsize=(WIDTH, WIDTH * 2.4 * len(examples) / columns), layout="constrained")
    grid = figure.subplots(2 * len(examples), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, example in enumerate(examples):
        most = max(float(np.abs(example["attributions"]).max()), _TINY)
        shown = zip(example["queries"], example["attributions"], example["shares"], strict=True)
        for position, (image, attributions, share) in enumerate(shown):
            above, below = grid[2 * number][position], grid[2 * number + 1][position]
            above.imshow(image, cmap="gray", vmin=0, vmax=255)
            below.imshow(attributions, cmap="bwr", vmin=-most, vmax=most)
            below.set_title(f"{share:.0%}", fontsize=7.5)
            if position == example["position"]:
                mark = "" if example["right"] else "✗ "
                above.set_title(f"{mark}{_short(example['decoded'], 16)}", fontsize=7.5)
                edge = COLOURS[2] if example["right"] else COLOURS[1]
                for axes in (above, below):
                    axes.set_axis_on()
                    axes.set(xticks=[], yticks=[])
                    axes.grid(visible=False)
                    for spine in axes.spines.values():
                        spine.set(visible=True, edgecolor=edge, linewidth=2)
    caption = (
        f"What {code['name']} looked at: groups with the query that was rebuilt in a frame, the class that was, and "
        "below each query its share of the positive evidence and where it lay: red for the class, blue against it."
    )
    return _picture(figure, stem, caption)


class _Tile(NamedTuple):
    title: str
    image: Any
    lines: list[str]
    mark: int | None
    """The line from which on it is a mistake."""


def _tiles(group: Mapping[str, Any], letters: int) -> list[_Tile]:
    columns = (group[key] for key in ("queries", "targets", "base", "decoded", "wrong"))
    tiles = []
    for index, (image, target, base, decoded, wrong) in enumerate(zip(*columns, strict=True)):
        lines = _lines("true", target, letters) + _lines("base", base, letters)
        rebuilt = _lines("✗ decoder" if wrong else "decoder", decoded, letters)
        tiles.append(_Tile(f"query {index}", image, lines + rebuilt, len(lines) if wrong else None))
    parity = enumerate(zip_longest(group["parity_queries"], group["parity"]))
    kind = "parity" if group["parity"] else "coded"  # coded queries of a non-systematic code go to the base model
    tiles += [
        _Tile(f"{kind} query {index}", image, _lines("predicts", predicted, letters), None)
        for index, (image, predicted) in parity
    ]
    return tiles


def _lines(what: str, predicted: Any, letters: int) -> list[str]:
    if predicted is None:
        return []
    return textwrap.wrap(f"{what}: {' '.join(str(predicted).split())}", letters, max_lines=2, placeholder=" …")


def _draw_tile(axes: Axes, tile: _Tile, x: float, y: float, line: float) -> None:
    left, top = x + (1 - TILE) / 2, y + 0.03 + 1.1 * line
    right, bottom = left + TILE, top + TILE
    axes.text(left, top - 0.3 * line, tile.title, fontsize=7.5, color="#666666", va="baseline")
    if tile.image is not None:
        image, extent = np.asarray(tile.image, dtype=np.uint8), (left, right, bottom, top)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest", aspect="auto")
    edge, width = (COLOURS[1], 2.5) if tile.mark is not None else ("#999999", 0.6)
    axes.add_patch(Rectangle((left, top), TILE, TILE, fill=False, edgecolor=edge, linewidth=width))
    for index, text in enumerate(tile.lines):
        colour = COLOURS[1] if tile.mark is not None and index >= tile.mark else "#222222"
        axes.text(left, bottom + line * (index + 0.95), text, fontsize=7.5, va="baseline", color=colour)
