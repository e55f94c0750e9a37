"""Writes every table of figures, in README, docs and the list of experiments, from the results.

    python benchmarks/tables.py            after a benchmark has been run

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. ``tests/test_tables.py`` fails where a page and
the results differ.
"""

import functools
import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import store

from parity.experiments.MNIST.ablation.experiment_parameters import ABOUT
from parity.storage.files import write_text
from parity.tasks import measure_name

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MEASURED = ROOT / "parity" / "experiments" / "measured.json"
_BETWEEN = re.compile(r"<!-- table: (\S+) -->\n.*?<!-- end -->", re.DOTALL)

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
        result: its name.
        columns: heads, and the name of a value or a format of the row's values.
    """

    result: str
    columns: Mapping[str, str]

    def __call__(self) -> str:
        """Return the table."""
        return markdown(list(self.columns), [self._line(row) for row in store.rows(self.result)])

    def _line(self, row: Row) -> list[str]:
        return [text(row[name]) if name in row else name.format(**row) for name in self.columns.values()]


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
        a_a = spread(list({row["A_a"] for row in found}))
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


THIRD_PARTY_HEAD = (
    "network", "k", "code", "A_a", "agreement", "what is lost, 95 %, paired", "minutes", "lines",
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
            f"{lost} {name.unit} ({low} to {high})", f"{row['minutes']:.1f}", str(row["lines"]),
        ])  # fmt: skip
    return markdown(THIRD_PARTY_HEAD, lines)


def suits() -> str:
    """Return, network by network, whether the code that it got suits it: at most 10 points lost, or 0.1."""
    lines = []
    for name in store.names("third_party"):
        rows = store.rows(name)
        kept = [str(row["k"]) for row in rows if row["loss"] <= MOST_LOST]
        lines.append([
            rows[0]["what"], ", ".join(sorted({f"`{row['code']}`" for row in rows})),
            f"k = {', '.join(kept)}" if kept else "no k measured: use replication, or a smaller k",
        ])  # fmt: skip
    return markdown(("network", "code", "suits"), lines)


def provenance() -> str:
    """Return where every result comes from."""
    lines = []
    for name in store.names():
        if not name.startswith("better_codes/"):
            result = store.read(name)
            seeds = ", ".join(map(str, result["seeds"])) or "–"
            versions = result["versions"] or {}
            by = f"`{result['command']}`" if result["command"] else "–"
            lines.append([f"`{name}`", result["origin"], by, text(result["source"]), seeds,
                          versions.get("parity", "not recorded")])  # fmt: skip
    return markdown(("result", "origin", "command", "source", "seeds", "version"), lines)


_RATIO = {"": "what", "beside": "beside", "theirs": "theirs", "ours": "ours", "ratio": "{ratio:.2f}", "reach": "reach"}
_KLOST = {"data": "data", "points lost": "lost"}

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
    "provenance": provenance,
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
    "reference_approxifer": Plain("reference/approxifer", {"k": "k", "accuracy": "{A_d:.3f}"}),
    "studies_state_lr": Plain(
        "studies/state_lr",
        {"by": "by", "lr": "lr", "best γ at 32": "width32", "best γ at 128": "width128", "best γ at 512": "width512",
         "best: decades apart": "{best_apart:.1f}", "highest good: decades apart": "{highest_apart:.1f}"},
    ),
    "studies_parity_models": Plain(
        "studies/parity_models",
        {"task, optimiser": "what", "smallest lr that diverged: base model": "base", "parity model": "parity",
         "best accuracy over lr and width: A_a": "A_a", "A_d": "A_d"},
    ),
    "studies_energies": Plain(
        "studies/energies",
        {"states begin": "states", "γ": "state_lr", "E_3 / E_1, untrained": "{untrained3:.2g}",
         "E_4 / E_1, untrained": "{untrained4:.2g}", "E_3 / E_1, trained": "{trained3:.2g}",
         "E_4 / E_1, trained": "{trained4:.2g}"},
    ),
}  # fmt: skip


def filled(page: str) -> str:
    """Return a page with its tables as the results have them."""
    return _BETWEEN.sub(lambda found: f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->", page)


def measured() -> str:
    """Return, as JSON, the mean A_d of each experiment in ``better_codes``."""
    values: dict[str, dict[str, float]] = {}
    for dataset, name in sorted({(row["dataset"], row["experiment"]) for row in all_runs()}):
        mean = statistics.mean(row["missing"]["1"] for row in runs(dataset, name))
        values.setdefault(dataset, {})[name] = round(mean, 4)
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
