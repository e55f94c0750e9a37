"""Writes every table of figures, in README, docs and the list of experiments, from the results.

    python benchmarks/tables.py            after a benchmark has been run

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, and a figure within a sentence between
``<!-- value: RESULT COLUMN=VALUE ... FORMAT -->``, which names a result, one row of it and a format of its values,
and ``<!-- end -->``. ``tests/test_tables.py`` fails where a page and the results differ, and where a figure of a config
file's docstring is in no result.
"""

import functools
import json
import re
import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pareto
import serving_results
import store
from scipy import stats

from parity.experiments.MNIST.ablation.experiment_parameters import ABOUT
from parity.storage.files import write_text
from parity.tasks import measure_name

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MEASURED = ROOT / "parity" / "experiments" / "measured.json"
_BETWEEN = re.compile(r"^( *)<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL | re.MULTILINE)
_VALUE = re.compile(r"(<!-- value: (\S+) ((?:\w+=\S+ )*)(.*?) -->).*?<!-- end -->", re.DOTALL)

Row = dict[str, Any]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(value: object) -> str:
    """Write a figure as it stands in a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation, of the sample; of a single value that alone."""
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


@dataclass(frozen=True)
class Plain:
    """A table with a line for each row of a result.

    Args:
        result: its name; or a glob, for the rows of several.
        columns: heads, and the name of a value or a format of the row's values.
    """

    result: str
    columns: Mapping[str, str]

    def __call__(self) -> str:
        """Return the table."""
        names = [name for name in store.names() if fnmatchcase(name, self.result)] or [self.result]
        return markdown(list(self.columns), [self._line(row) for name in names for row in store.rows(name)])

    def _line(self, row: Row) -> list[str]:
        return [text(row[name]) if name in row else name.format(**row) for name in self.columns.values()]


def value(result: str, where: str, form: str) -> str:
    """Write a figure of the one row that has the named values.

    Args:
        result: its name.
        where: ``COLUMN=VALUE``, separated by spaces; may be empty where the result has one row.
        form: a format of the row's values, as ``{A_d:.3f}``.
    """
    wanted = dict(each.split("=") for each in where.split())
    found = [row for row in store.rows(result) if all(str(row.get(name)) == text for name, text in wanted.items())]
    if len(found) != 1:
        raise ValueError(f"{result} has {len(found)} rows with {where or 'anything'}: name one.")
    return form.format(**found[0])


# Positional codes, beside addition: every run is a result of its own.

CODES_HEAD = (
    "code", "A_a", "A_d, 1 missing", "2 missing", "all k missing, parity outputs alone", "reconstruction",
    "parity model's multiply-adds / parameters, of the base model's", "seeds",
)  # fmt: skip


@functools.cache
def all_runs() -> list[Row]:
    """Return all runs, a row each."""
    return [row for name in store.names("better_codes") for row in store.rows(name)]


def runs(dataset: str, experiment: str) -> list[Row]:
    """Return the runs of an experiment, a row for each seed."""
    return [row for row in all_runs() if (row["dataset"], row["experiment"]) == (dataset, experiment)]


def experiments(dataset: str) -> list[str]:
    """Return which of a data set's experiments have runs, without those of the ablation."""
    names = {row["experiment"] for row in all_runs() if row["dataset"] == dataset}
    return sorted(names - set(ABOUT), key=lambda name: ("_kl" in name, "_r2" in name, name))


def missing(found: Sequence[Row], count: int) -> str:
    """Write the accuracy with so many missing predictions."""
    return spread([row["missing"][str(count)] for row in found]) if str(count) in found[0]["missing"] else "–"


def cost(row: Row) -> str:
    """Write what a parity model costs beside the base model."""
    return f"{row['multiply_adds']:.2f} / {row['parameters']:.2f}"


def codes(dataset: str) -> Callable[[], str]:
    """Return the maker of the table of a data set's codes."""

    def line(name: str) -> list[str]:
        found = runs(dataset, name)
        first = found[0]
        two = missing(found, 2) if first["r"] > 1 else "–"
        reconstruction = spread([row["reconstruction"]["1"] for row in found])
        each = [row["A_a"] for row in found]
        a_a = spread(each if len(set(each)) > 1 else each[:1])
        return [
            f"`{name}`", a_a, missing(found, 1), two, missing(found, first["k"]), reconstruction, cost(first),
            str(len(found)),
        ]  # fmt: skip

    return lambda: markdown(CODES_HEAD, map(line, experiments(dataset)))


def ablation() -> str:
    """Return the table of what each part of the recipe brings."""
    found = {name: runs("MNIST", name) for name in ABOUT}
    lines = [[f"`{name}`", ABOUT[name], missing(rows, 1), str(len(rows))] for name, rows in found.items() if rows]
    return markdown(("experiment", "what", "A_d", "seeds"), lines)


def at_a_glance() -> str:
    """Return A_d of all codes on MNIST by k."""
    reference = {(row["k"], row["epochs"]): row["A_d"] for row in store.rows("reference/original_recipe")}
    ours = {(row["k"], row["epochs"]): row["mean"] for row in store.rows("original_recipe")}
    found: list[tuple[str, dict[int, float], str]] = [
        ("addition, the original's own code", at(reference, 500), "500 epochs, one seed"),
        ("addition, the same recipe here", at(ours, 40), "40 epochs, three seeds"),
    ]
    for result, training in (("codes_one_seed", "40 epochs, one seed"), ("codes_without_training", "none")):
        rows = store.rows(result)
        for code in dict.fromkeys(row["code"] for row in rows):
            found.append((code, {row["k"]: row["A_d"] for row in rows if row["code"] == code}, training))
    for code, target in (("cells_kl", "towards the base model"), ("cells", "towards true labels")):
        means = {k: statistics.mean(row["missing"]["1"] for row in runs("MNIST", f"mlp_k{k}_{code}"))
                 for k in (2, 3, 4, 8)}  # fmt: skip
        found.append((f"**`{code}`**, positional, {target}", means, "50 epochs, three seeds"))
    lines = [[code, *(f"{values[k]:.3f}" if k in values else "–" for k in (2, 3, 4, 8)), training]
             for code, values, training in found]  # fmt: skip
    return markdown(("code, r = 1", "k = 2", "k = 3", "k = 4", "k = 8", "training"), lines)


def at(values: Mapping[tuple[int, int], float], epochs: int) -> dict[int, float]:
    """Return, by k, what was reached after so many epochs."""
    return {k: value for (k, after), value in values.items() if after == epochs}


def beyond_mnist() -> str:
    """Return A_d of addition and of positional codes on each data set that has both."""
    lines = []
    for dataset, network in (("Digits", "mlp"), ("CIFAR10", "small_resnet"), ("FSDD", "lenet")):
        for k in (2, 4):
            found = [runs(dataset, f"{network}_k{k}_{code}") for code in ("add", "cells", "cells_kl")]
            cells = [missing(rows, 1) if rows else "–" for rows in found]
            lines.append([dataset, str(k), text_of_base(found[0]), *cells, cost(found[1][0])])
    head = ("data", "k", "A_a", "addition", "`cells`", "`cells_kl`",
            "parity model's multiply-adds / parameters, of the base model's")  # fmt: skip
    return markdown(head, lines)


def text_of_base(found: Sequence[Row]) -> str:
    """Write the base model's accuracy."""
    return f"{found[0]['A_a']:.4f}"


def lost() -> str:
    """Return what the positional codes themselves lose: points of A_a that cells_kl, whose limit it is, lacks."""
    lines = []
    for dataset in ("MNIST", "Digits", "CIFAR10"):
        for name in experiments(dataset):
            if "_kl" in name:
                found = runs(dataset, name)
                points = [100 * (row["A_a"] - row["missing"]["1"]) for row in found]
                lines.append([dataset, f"`{name}`", f"{statistics.mean(points):.1f}", str(len(points))])
    return markdown(("data", "code", "points of accuracy lost", "seeds"), lines)


def original_recipe() -> str:
    """Return our training of the original recipe beside the original's."""
    reference = {(row["k"], row["epochs"]): row["A_d"] for row in store.rows("reference/original_recipe")}
    lines = [
        [str(row["k"]), str(row["epochs"]), f"{reference[row['k'], row['epochs']]:.3f}",
         f"{row['mean']:.4f} ± {row['sd']:.4f}", f"{row['low']:.4f} – {row['high']:.4f}"]
        for row in store.rows("original_recipe")
    ]  # fmt: skip
    return markdown(("k", "epochs", "original, 1 seed", "ours, mean ± sd of 3 seeds", "range"), lines)


def quickstart() -> str:
    """Return what the quickstart prints."""
    lines = [row["line"] for row in store.rows("quickstart")]
    return "\n".join(["```text", *lines, "```"])


def equal_cost(dataset: str, network: str) -> Callable[[], str]:
    """Return the maker of the table of what the same extra worker can run beside a network."""

    def line(k: int, code: str, found: Sequence[Row]) -> list[str]:
        first = found[0]
        points = [100 * row["loss"]["1"]["value"] for row in found]
        spread_of = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
        interval = first["loss"]["1"]
        low, high = 100 * interval["low"], 100 * interval["high"]
        return [
            str(k), f"`{code}`", STARTS[first["start"]], f"{statistics.mean(points):.1f}{spread_of}",
            f"{low:.1f} to {high:.1f}",
            f"{statistics.mean(row['reconstruction']['1']['value'] for row in found):.3f}",
            f"{statistics.mean(row['likelihood']['rebuilt']['nll'] for row in found):.3f}",
            f"{first['multiply_adds']:.2f}", f"{first['extra_multiply_adds']:.0%}", f"{first['extra_bytes_up']:.0%}",
            f"{first['extra_bytes_down']:.0%}", str(len(found)),
        ]  # fmt: skip

    def made() -> str:
        if not (found := at_equal_cost(dataset, network)):
            return f"Not measured yet: `python benchmarks/compare_all.py --dataset {dataset}`."
        return markdown(EQUAL_COST_HEAD, [line(*key, rows) for key, rows in found])

    return made


def over_speakers(lost: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over speakers, by Student's t: clips of one voice are not independent."""
    error = statistics.stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else float("inf")
    margin = float(stats.t.ppf(0.975, len(lost) - 1)) * error
    return statistics.mean(lost) - margin, statistics.mean(lost) + margin


def speakers() -> str:
    """Return what codes lose on spoken digits of a voice that no network has heard, over all speakers."""
    lines = []
    found = [row for name in store.names("speakers") for row in store.rows(name)]
    for k, code in sorted({(row["k"], row["code"]) for row in found}):
        each = [row for row in found if row["code"] == code]
        lost, heard = [100 * row["loss"]["value"] for row in each], [row["A_a"] for row in each]
        low, high = over_speakers(lost)
        lines.append([
            str(k), f"`{code}`", f"{statistics.mean(heard):.3f} ({min(heard):.3f} to {max(heard):.3f})",
            f"{statistics.mean(lost):.1f}", f"{low:.1f} to {high:.1f}", f"{min(lost):.1f} to {max(lost):.1f}",
            f"{statistics.mean(row['reconstruction'] for row in each):.3f}", str(len(each)),
        ])  # fmt: skip
    if not lines:
        return "Not measured yet: `python benchmarks/speakers.py`."
    return markdown(SPEAKERS_HEAD, lines)


def stragglers(dataset: str, network: str) -> Callable[[], str]:
    """Return the maker of the table of what users get where workers are not alike and independent, by A_o(0.1)."""

    def line(k: int, code: str, found: Sequence[Row]) -> list[str]:
        names = ("value", "slow", "together")
        each = [statistics.mean(row["A_o"]["0.1"][name] for row in found) for name in names]
        return [str(k), f"`{code}`", *(f"{value:.4f}" for value in each)]

    def made() -> str:
        lines = [
            line(*key, [row for row in rows if "slow" in row["A_o"]["0.1"]])  # not in the first results
            for key, rows in at_equal_cost(dataset, network)
        ]
        head = ("k", "code", "A_o(0.1)", "one worker is slow", "workers fail together")
        return markdown(head, sorted(lines, key=lambda cells: (cells[0], -float(cells[2]))))

    return made


def at_equal_cost(dataset: str, network: str) -> list[tuple[tuple[int, str], list[Row]]]:
    """Return what was measured of a network, its seeds, for each k and code, those first that lose least."""
    return sorted(pareto.measured(dataset, network).items(), key=lambda item: (item[0][0], mean_loss(item[1])))


STARTS = {
    None: "scratch", "FromBaseModel": "the base model", "FromPrunedBaseModel": "the base model, pruned",
    "FrozenBaseModel": "the base model, frozen",
}  # fmt: skip
"""In words, what a config has as ``parity_start``."""

EQUAL_COST_HEAD = (
    "k", "code", "starts from", "points lost", "first seed, 95 %, paired", "reconstruction", "NLL",
    "parity model's multiply-adds", "extra multiply-adds", "extra bytes up", "extra bytes down", "seeds",
)  # fmt: skip


SPEAKERS_HEAD = (
    "k", "code", "base model, mean (speakers)", "points lost", "95 %, over speakers", "speakers", "reconstruction",
    "speakers measured",
)  # fmt: skip


def mean_loss(found: Sequence[Row]) -> float:
    """Return the mean of A_a - A_d."""
    return statistics.mean(row["loss"]["1"]["value"] for row in found)


THIRD_PARTY_HEAD = (
    "network", "k", "code", "A_a", "agreement", "what is lost, 95 %, paired", "epochs", "minutes",
    "lines",
)  # fmt: skip
LOST = ("loss", "low", "high")
MOST_LOST = 0.1


def third_party() -> str:
    """Return what networks of every kind lose, most of them from packages."""
    lines = []
    for row in (row for name in store.names("third_party") for row in store.rows(name)):
        name = measure_name(row["measure"])
        lost, low, high = (f"{name.scale * row[key]:.{name.digits}f}".replace("-", "−") for key in LOST)
        lines.append([
            row["what"], str(row["k"]), f"`{row['code']}`", f"{row['A_a']:.3f}", f"{row['agreement']:.3f}",
            f"{lost} {name.unit} ({low} to {high})", str(row["epochs"]), f"{row['minutes']:.1f}",
            str(row["lines"]),
        ])  # fmt: skip
    return markdown(THIRD_PARTY_HEAD, lines)


def suits() -> str:
    """Return, network by network, at which k the code that it got suits it: at most 10 points lost, or 0.1."""
    lines = []
    for name in store.names("third_party"):
        rows = store.rows(name)
        ks = [", ".join(str(row["k"]) for row in rows if (row["loss"] <= MOST_LOST) == fits) for fits in (True, False)]
        codes = ", ".join(sorted({f"`{row['code']}`" for row in rows}))
        lines.append([rows[0]["what"], codes, *(f"k = {found}" if found else "–" for found in ks)])
    return markdown(("network", "code", "suits", "does not suit"), lines)


def protected(*names: str) -> str:
    """Return what ``protect`` loses: the results' names under ``results/``."""
    lines = []
    for row in (row for name in names for row in store.rows(name)):
        lost, low, high = (f"{100 * row[key]:.1f}".replace("-", "−") for key in LOST)
        line = [row["network"], str(row["k"]), f"`{row['code']}`", f"{row['A_a']:.3f}"]
        lines.append([*line, f"{row['A_a'] - row['loss']:.3f}", f"{lost} points ({low} to {high})"])
    return markdown(("network", "k", "code", "A_a", "A_d", "what is lost, 95 %, paired"), lines)


def tables_codes() -> str:
    """Return what codes for tables lose, a line for each code and a column for each set and k."""
    rows = store.rows("tables_codes")
    columns = list(dict.fromkeys((row["data"], row["k"]) for row in rows))
    lines = []
    for code in dict.fromkeys(row["code"] for row in rows):
        found = {(row["data"], row["k"]): row for row in rows if row["code"] == code}
        costs = [row["multiply_adds"] for row in found.values()]
        lost = [f"{found[column]['lost']:.1f} ± {found[column]['spread']:.1f}" for column in columns]
        lines.append([code, *lost, f"{min(costs):.2f} – {max(costs):.2f}"])
    head = ("points lost", *(f"{data}, k = {k}" for data, k in columns), "parity model's multiply-adds")
    return markdown(head, lines)


def tokens_codes() -> str:
    """Return what codes for ids of tokens lose, a line for each code and a column for each k."""
    rows = store.rows("tokens_codes")
    ks = sorted({row["k"] for row in rows})
    lines = []
    for code in dict.fromkeys(row["code"] for row in rows):
        found = {row["k"]: row for row in rows if row["code"] == code}
        lost = ["{loss:.1f} ({low:.1f} to {high:.1f})".format(**{key: 100 * found[k][key] for key in LOST}) for k in ks]
        costs = [f"{found[k]['multiply_adds']:.2f}" for k in ks]
        lines.append([code, *(part.replace("-", "−") for part in lost), " – ".join(sorted(set(costs)))])
    return markdown(("points lost", *(f"k = {k}" for k in ks), "parity model's multiply-adds"), lines)


def one_size() -> str:
    """Return what codes lose for networks that take queries of one size, the least first."""
    lines = []
    for row in sorted(store.rows("one_size"), key=lambda row: (row["network"], row["loss"])):
        name = measure_name(row["measure"])
        lost, low, high = (f"{name.scale * row[key]:.{name.digits}f}".replace("-", "−") for key in LOST)
        lost = f"{lost} {name.unit} ({low} to {high})"
        lines.append([row["network"], f"`{row['code']}`", lost, f"{row['multiply_adds']:.2f}"])
    return markdown(("network", "code, k = 4", "what is lost, 95 %, paired", "parity model's multiply-adds"), lines)


def provenance() -> str:
    """Return where every result comes from."""
    lines = []
    for name in store.names():
        if not name.startswith(("better_codes/", "equal_cost/", "explanations/")):
            result = store.read(name)
            seeds = ", ".join(map(str, result["seeds"])) or "–"
            versions = result["versions"] or {}
            by = f"`{result['command']}`" if result["command"] else "–"
            lines.append([f"`{name}`", result["origin"], by, text(result["source"]), seeds,
                          versions.get("parity", "not recorded")])  # fmt: skip
    return markdown(("result", "origin", "command", "source", "seeds", "version"), lines)


_RATIO = {"": "what", "beside": "beside", "theirs": "theirs", "ours": "ours", "ratio": "{ratio:.2f}", "reach": "reach"}
_KLOST = {"data": "data", "points lost": "lost"}
_GAMMA = "{{width{width}[best]:g}} ({{width{width}[low]:g}} – {{width{width}[high]:g}}; {{width{width}[accuracy]:.3f}})"

TABLES: dict[str, Callable[[], str]] = {
    "quickstart": quickstart,
    "third_party": third_party,
    "suits": suits,
    "at_a_glance": at_a_glance,
    "beyond_mnist": beyond_mnist,
    "codes_MNIST": codes("MNIST"),
    "codes_Digits": codes("Digits"),
    "codes_CIFAR10": codes("CIFAR10"),
    "codes_FSDD": codes("FSDD"),
    "ablation": ablation,
    "lost": lost,
    **{f"equal_cost_{dataset}_{network}": equal_cost(dataset, network) for dataset, network in pareto.NETWORKS},
    **{
        f"equal_cost_{dataset}_{network}_figure": serving_results.figures(
            f"equal-cost-{dataset}-{network}",
            "Points of accuracy lost against extra multiply-adds, and against extra bytes sent, a point for each code "
            "and k, with a line through those that none is better than in both; the table above has the same figures.",
            "Not measured yet: `python benchmarks/compare_all.py`.",
        )
        for dataset, network in pareto.NETWORKS
    },
    "speakers": speakers,
    "stragglers_Digits_mlp": stragglers("Digits", "mlp"),
    "stragglers_MNIST_mlp": stragglers("MNIST", "mlp"),
    "located": Plain(
        "located",
        {"code": "code", "k": "k", "E": "E", "workers": "workers", "locator": "locator",
         "groups with all E found": "{groups:.1%}", "where predictions are mixed up": "{mixed_up:.1%}",
         "accuracy, ignored": "{ignored:.4f}",
         "found and left out": "{acted_on:.4f}", "known and left out": "{known:.4f}",
         "authors', larger networks": "authors"},
    ),
    "detection": Plain(
        "detection",
        {"code": "`{code}`", "k": "k", "false alarms allowed": "{allowed:.1%}", "on test data": "{false_alarms:.1%}",
         "fault of one worker": "fault", "noticed where the class changed": "{detected_where_it_matters:.1%}",
         "found": "{located:.1%}", "accuracy, ignored": "{ignored:.4f}", "acted on": "{acted_on:.4f}"},
    ),
    "detection_Digits": Plain(
        "detection_Digits",
        {"code": "`{code}`", "k": "k", "fault of one worker": "fault", "noticed": "{detected:.1%}",
         "noticed where the class changed": "{detected_where_it_matters:.1%}", "found": "{located:.1%}",
         "g = 1 %, ignored": "{users[0][ignored]:.4f}", "acted on": "{users[0][acted_on]:.4f}",
         "g = 10 %, ignored": "{users[2][ignored]:.4f}", "acted on, g = 10 %": "{users[2][acted_on]:.4f}"},
    ),
    "explanations_codes": Plain(
        "explanations/code-*",
        {"data": "dataset", "network": "`{network}`", "code": "`{code}`", "k": "k", "A_d": "{A_d:.4f}",
         "explainer": "`{explainer}`", "groups": "grids",
         "on the right query": "{value:.3f} ({low:.3f} to {high:.3f})",
         "through the base model too": "{through_value:.3f} ({through_low:.3f} to {through_high:.3f})",
         "chance": "{chance:.3f}", "epochs": "epochs"},
    ),
    "explanations_localisation": Plain(
        "explanations/base-*",
        {"data": "dataset", "network": "`{network}`", "A_a": "{A_a:.4f}", "grid": "grid", "grids": "grids",
         "explainer": "`{explainer}`", "in the right cell": "{value:.3f} ({low:.3f} to {high:.3f})",
         "chance": "{chance:.3f}", "epochs": "epochs"},
    ),
    "provenance": provenance,
    "tables_codes": tables_codes,
    "tokens_codes": tokens_codes,
    "one_size": one_size,
    "encoding_costs": Plain("encoding_costs", {"data": "data", "k": "k", "of one query's pass": "{share:.2f}"}),
    "original_recipe": original_recipe,
    "real_data": Plain(
        "real_data",
        {"data": "data", "experiment": "`{experiment}`", "measure": "measure", "floor": "{floor:.4f}",
         "base model": "{A_a:.4f}", "A_d": "{A_d:.4f}", "reconstruction": "{reconstruction:.4f}"},
    ),
    "better_codes_time": Plain(
        "better_codes_time",
        {"code": "`{code}`", "epoch, s": "{epoch:.2f}", "the original's at this k, s": "{original_epoch:.2f}",
         "its 500 epochs, s": "original_run", "whole run, of the original's 500 epochs": "{share:.2f}"},
    ),
    "train_throughput": Plain("train_throughput", _RATIO),
    "data_throughput": Plain("data_throughput", _RATIO),
    "evaluation": Plain("evaluation", _RATIO),
    "evaluation_memory": Plain(
        "evaluation_memory", {"code": "code", "patterns": "patterns", "peak of tensors, MiB": "{mib:.1f}"}
    ),
    "evaluation_decoding": Plain(
        "evaluation_decoding",
        {"G": "G", "encode, µs a group": "{encode:.1f}", "decode, µs a group": "{decode:.1f}",
         "one query's pass, µs": "{forward:.1f}", "(encode + decode) / pass": "{ratio:.2f}"},
    ),
    "study_jobs": Plain(
        "study_jobs", {"": "what", "--jobs 1": "one", "--jobs 2": "two", "ratio": "ratio", "reach": "reach"}
    ),
    "serving_soak": Plain(
        "serving_soak",
        {"faults": "faults", "SIGKILL": "killed", "SIGSTOP": "stopped", "stopped for 1 s": "stopped_for_a_second",
         "at parity workers": "at_parity_workers", "queries": "queries", "answered once": "answered", "wrong": "wrong",
         "rebuilt": "rebuilt", "p99, ms": "{p99_ms:.0f}", "longest, ms": "{longest_ms:.0f}",
         "SIGKILL to full strength, s": "{killed_to_full_strength_s:.1f}"},
    ),
    "serving_patience": Plain(
        "serving_patience",
        {"load": "{load:.0%}", "p50, p99, p99.9 without, ms": "{hasty_p50:.0f}, {hasty_p99:.0f}, {hasty_p99_9:.0f}",
         "rebuilt": "{hasty_rebuilt:.0%} ({hasty_rebuilt_without_a_fault:.0%})",
         "with, ms": "{patient_p50:.0f}, {patient_p99:.0f}, {patient_p99_9:.0f}",
         "rebuilt then": "{patient_rebuilt:.1%} ({patient_rebuilt_without_a_fault:.1%})"},
    ),
    "serving_overload": Plain(
        "serving_overload",
        {"base workers": "workers", "p99 of what is accepted, over p50 at half the load": "{p99_over_p50:.1f}",
         "refused": "{refused:.0%}", "refused at 70 % load": "{refused_at_70:.1%}"},
    ),
    "serving_overload_http": Plain("serving_overload_http", {"over HTTP": "what", "": "value"}),
    "serving_engines": Plain(
        "serving_engines",
        {"engine": "engine", "p50, ms": "{p50_ms:.1f}", "p99, ms": "{p99_ms:.1f}",
         "frontend, cores": "{frontend_cores:.2f}"},
    ),
    "protect_cifar": functools.partial(protected, *store.names("protect_cifar")),
    "protect_digits": functools.partial(protected, "protect_digits"),
    **serving_results.TABLES,
    "chaos": Plain("chaos", {"": "what", "count": "value"}),
    "published_addition": Plain("published/addition", _KLOST),
    "published_addition_speech": Plain("published/addition_speech", {"k": "k", "accuracy, %": "A_d"}),
    "published_concatenation": Plain("published/concatenation", {"k": "k", "points gained": "gained"}),
    "published_learned": Plain("published/learned", _KLOST),
    "published_approxifer": Plain(
        "published/approxifer",
        {"code": "code", "k": "k", "stragglers": "stragglers", "MNIST": "mnist", "Fashion-MNIST": "fashion",
         "CIFAR-10": "cifar10"},
    ),
    "published_datamux": Plain("published/datamux", {"N": "N", "accuracy, %": "accuracy"}),
    "published_approxifer_wrong": Plain(
        "published/approxifer_wrong", {"data": "data", "E = 1": "E1", "E = 2": "E2", "E = 3": "E3"}
    ),
    "published_multiplexing": Plain("published/multiplexing", {"work": "work", "what": "what", "accuracy": "cost"}),
    "published_serving": Plain("published/serving", {"": "what", "at most": "value"}),
    "original_speed": Plain("reference/original_speed", {"": "what", "seconds": "seconds"}),
    "packed_students": Plain(
        "reference/packed_students",
        {"data": "data", "k": "k", "": "measure", "packed student": "student", "`cells_kl`": "cells_kl",
         "`cells_kl` from the base model's weights": "started"},
    ),
    "within_reach": Plain(
        "reference/within_reach",
        {"code, r = 1": "code", "k = 2": "k2", "k = 3": "k3", "k = 4": "k4", "k = 8": "k8", "epochs": "epochs"},
    ),
    "within_reach_cifar10": Plain("reference/within_reach_cifar10", {"code, k = 2": "code", "A_d": "{A_d:.3f}"}),
    "ray_calls": Plain(
        "reference/ray_calls", {"": "what", "p50, ms": "p50", "p99, ms": "p99", "array of 600 KB, ms": "array"}
    ),
    "ray_stragglers": Plain(
        "reference/ray_stragglers",
        {"policy": "policy", "workers": "workers", "actors, one random worker 8 × slower": "slow",
         "actors, one stopped for 1 s every 1.5 s": "stopped", "Serve handles, slow": "handles"},
    ),
    "reference_approxifer": Plain("reference/approxifer", {"k": "k", "accuracy": "{A_d:.3f}"}),
    "studies_state_lr": Plain(
        "studies/state_lr",
        {"by": "by", "lr": "lr", **{f"best γ at {width}": _GAMMA.format(width=width) for width in (32, 128, 512)},
         "best: decades apart": "{best_apart:.1f}", "highest good: decades apart": "{highest_apart:.1f}"},
    ),
    "studies_parity_models": Plain(
        "studies/parity_models",
        {"task": "task", "optimiser": "optimiser", "smallest lr that diverged: base model": "base",
         "parity model": "parity", "best accuracy over lr and width: A_a": "{A_a:.3f} at lr {A_a_lr}",
         "A_d": "{A_d:.3f} at lr {A_d_lr}"},
    ),
    "studies_energies": Plain(
        "studies/energies",
        {"states begin": "states", "γ": "state_lr", "E_3 / E_1, untrained": "{untrained3:.2g}",
         "E_4 / E_1, untrained": "{untrained4:.2g}", "E_3 / E_1, trained": "{trained3:.2g}",
         "E_4 / E_1, trained": "{trained4:.2g}"},
    ),
}  # fmt: skip


def table(name: str, indent: str = "") -> str:
    """Return a table between its markers; indented where it belongs to a list."""
    return textwrap.indent(f"<!-- table: {name} -->\n{TABLES[name]()}\n<!-- end -->", indent)


def filled(page: str) -> str:
    """Return a page with its tables and figures as the results have them."""
    page = _BETWEEN.sub(lambda found: table(found[2], found[1]), page)
    return _VALUE.sub(lambda found: f"{found[1]}{value(*found.groups()[1:])}<!-- end -->", page)


# What each experiment has reached, for ``--list`` and the docstrings of config files.

ONE_SEED = ("codes_one_seed", "real_data", "configs")
"""Results with a row for each experiment, of one seed; the first that has an experiment counts."""

_FIGURES = ("A_a", "A_d", "reconstruction")


def reached() -> dict[tuple[str, str], dict[str, float]]:
    """Return, by data set and experiment, 'A_a', 'A_d' and 'reconstruction': of several seeds where there are some."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for dataset, name in sorted({(row["dataset"], row["experiment"]) for row in all_runs()}):
        rows = runs(dataset, name)
        found[dataset, name] = {
            "A_a": statistics.mean(row["A_a"] for row in rows),
            "A_d": statistics.mean(row["missing"]["1"] for row in rows),
            "reconstruction": statistics.mean(row["reconstruction"]["1"] for row in rows),
        }
    for row in store.rows("original_recipe"):  # a row for each number of epochs: the most
        found[row["dataset"], row["experiment"]] = {"A_d": row["mean"]}
    explained = store.names("explanations")
    for row in (row for result in (*ONE_SEED, *explained) for row in store.rows(result)):
        figures: dict[str, float] = {name: row[name] for name in _FIGURES if name in row}
        found.setdefault((row["dataset"], row["experiment"]), figures)
    for dataset, network in pareto.NETWORKS:
        for rows in pareto.measured(dataset, network).values():
            figures = {
                name: statistics.mean(row[name]["1"]["value"] for row in rows) for name in ("A_d", "reconstruction")
            }
            figures["A_a"] = statistics.mean(row["A_a"]["value"] for row in rows)
            found.setdefault((dataset, rows[0]["experiment"]), figures)
    return found


def measured() -> str:
    """Return, as JSON, the A_a and the A_d of each experiment that has one; of a base model A_a alone."""
    values: dict[str, dict[str, dict[str, float]]] = {}
    for (dataset, name), figures in sorted(reached().items()):
        kept = {measure: round(value, 4) for measure, value in figures.items() if measure in ("A_a", "A_d")}
        if kept:
            values.setdefault(dataset, {})[name] = kept
    return json.dumps(values, indent=2) + "\n"


def main() -> None:
    """Write all pages."""
    write_text(MEASURED, measured())
    for page in PAGES:
        before = page.read_text()
        if (after := filled(before)) != before:
            write_text(page, after)


if __name__ == "__main__":
    main()
