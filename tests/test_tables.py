"""Figures have one source: pages are as the results have them, and every result names where it comes from."""

import ast
import functools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from parity.coders import MLPEncoder
from parity.models import MLP

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
CONFIGS = sorted((ROOT / "parity" / "experiments").rglob("experiment_parameters.py"))
_FIGURE = re.compile(r"(?<![\w.-])\d+\.\d+(?![\w.]\d)|\d+ ?%")
SETTINGS = {  # what is chosen, not measured: rates, versions, sections of papers, limits
    "README.md": {"3.11", "3.12", "3.13", "0.4"},
    "codes.md": {"1.10", "3.11", "4.2"},
    "choosing.md": {"0.1"},
    "comparison.md": {"95 %", "0.1"},
    "equal_cost.md": {"1.10", "0.1", "0.2"},
    "getting_started.md": {"3.11", "3.12", "3.13", "95 %"},
    "protect.md": {"0.005", "0.01", "95 %"},
    "results.md": {"2.11", "2.60", "99.9"},
    "serving.md": {"0.05", "1.1", "1.5", "2.60", "10 %", "70 %", "90 %"},
    "tasks.md": {"0.75"},
    "studies.md": {"5.1", "0.1", "0.02", "0.3", "0.03", "0.01", "0.003", "0.001"},
}
THRESHOLDS = ("0.75", "1.10")
"""In docstrings of configs: of IoU; of what a parity model may cost."""


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import tables

    return tables


def test_the_list_of_experiments_has_what_base_models_and_codes_reach(tables: ModuleType) -> None:
    digits = json.loads(tables.measured())["Digits"]
    assert set(digits["mlp_base"]) == {"A_a"}
    assert set(digits["mlp_k2_add"]) == {"A_a", "A_d"}


def test_pages_and_the_list_of_experiments_are_as_the_results_have_them(tables: ModuleType) -> None:
    for page in tables.PAGES:
        assert page.read_text() == tables.filled(page.read_text()), f"{page}: run python benchmarks/tables.py"
    assert tables.MEASURED.read_text() == tables.measured(), "run python benchmarks/tables.py"


def by_hand(page: str) -> list[str]:
    """Return the figures of a page's prose that no marker fills."""
    generated = (
        r"<!-- table: .*?<!-- end -->|<!-- value: .*?<!-- end -->|^```.*?^```|`[^`\n]*`|\]\([^)]*\)|arXiv [\d.]+"
    )
    return _FIGURE.findall(re.sub(generated, "", page, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"], ids=lambda page: page.name
)
def test_no_measured_figure_stands_by_hand_in_prose(page: Path) -> None:
    assert set(by_hand(page.read_text())) - SETTINGS.get(page.name, set()) == set()


def test_a_figure_by_hand_is_found() -> None:
    page = "A_a is <!-- value: a {b} -->0.9<!-- end -->, `lr=0.3`, and A_d 0.91 or 7 %.\n```text\n0.5\n```\n"
    assert by_hand(page) == ["0.91", "7 %"]


def test_a_figure_that_differs_in_prose_is_written_as_the_results_have_it(tables: ModuleType) -> None:
    marker = "<!-- value: reference/base_model split=test {accuracy:.4f} -->"
    assert tables.filled(f"It has {marker}0.98<!-- end -->, or so.") == f"It has {marker}0.9793<!-- end -->, or so."
    with pytest.raises(ValueError, match="2 rows with anything: name one"):
        tables.value("reference/base_model", "", "{accuracy}")


def test_no_line_begins_with_a_marker_of_a_figure(tables: ModuleType) -> None:
    for page in tables.PAGES:  # Markdown would end the paragraph there
        assert not re.search(r"^ *<!-- value", page.read_text(), re.MULTILINE), page


def leaves(value: Any) -> Iterator[float]:
    """Yield the numbers of a row, also those within."""
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, (int, float)):
        yield value


@functools.cache
def rows_of(dataset: str, tables: ModuleType) -> list[dict[str, Any]]:
    """Return all rows about a data set, and of each experiment what it has reached."""
    rows = [row for name in tables.store.names() for row in tables.store.rows(name) if row.get("dataset") == dataset]
    return rows + [dict(figures, experiment=name) for (of, name), figures in tables.reached().items() if of == dataset]


def unknown_figures(docstring: str, dataset: str, tables: ModuleType) -> list[str]:
    """Return the figures of a config's docstring that are in no result of its data set.

    What stands after an experiment's name must be of that experiment.
    """
    rows = rows_of(dataset, tables)
    named = "|".join(sorted({row["experiment"] for row in rows if "experiment" in row}, key=len, reverse=True))
    unknown, experiment = [], None
    for name, figure in re.findall(rf"\b({named or 'none'})\b|(?<![\w.])(\d\.\d\d+)|\n\n", docstring):
        if not figure:  # a name, or the end of a paragraph
            experiment = name or None
            continue
        about = (row for row in rows if experiment is None or row.get("experiment") == experiment)
        known = {f"{value / part:.{len(figure) - 2}f}" for row in about for value in leaves(row) for part in (1, 100)}
        if figure not in known and figure not in THRESHOLDS:
            unknown.append(f"{experiment}: {figure}")
    return unknown


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_the_figures_that_a_config_file_opens_with_are_those_of_the_results(config: Path, tables: ModuleType) -> None:
    docstring = ast.get_docstring(ast.parse(config.read_text())) or ""
    assert unknown_figures(docstring, config.parts[-3], tables) == []


def test_a_figure_of_another_experiment_is_unknown(tables: ModuleType) -> None:
    docstring = "mlp_k2_add A_d 0.9500, mlp_k2_concat A_d 0.9500\n\nand 0.1234"
    assert unknown_figures(docstring, "Digits", tables) == ["mlp_k2_concat: 0.9500", "None: 0.1234"]


def test_the_learned_encoder_has_as_many_parameters_as_its_page_has(tables: ModuleType) -> None:
    counts = [sum(each.numel() for each in network.parameters())
              for network in (MLPEncoder(2, 1, (1, 28, 28)), MLP((1, 28, 28), (10,)))]  # fmt: skip
    [row] = tables.store.rows("learned_encoder")
    assert (row["millions"], row["of_base"]) == (counts[0] / 1e6, counts[0] / counts[1])


def test_a_page_that_differs_is_written_as_the_results_have_it(tables: ModuleType) -> None:
    page = "before\n<!-- table: lost -->\n| by hand |\n<!-- end -->\nafter\n"
    assert tables.filled(page) == f"before\n<!-- table: lost -->\n{tables.lost()}\n<!-- end -->\nafter\n"


def test_every_table_stands_on_a_page(tables: ModuleType) -> None:
    pages = "".join(page.read_text() for page in tables.PAGES)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in pages] == []


def test_every_result_is_read_by_a_page_or_the_list_of_experiments(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rows = set(), tables.store.rows
    monkeypatch.setattr(tables.store, "rows", lambda name: read.add(name) or rows(name))
    tables.all_runs.cache_clear()
    for page in tables.PAGES:
        tables.filled(page.read_text())
    tables.measured()
    assert set(tables.store.names()) - read == {"reference/cub_boxes"}  # a config's docstring alone has it


def test_every_result_has_the_one_form(tables: ModuleType) -> None:
    names = tables.store.names()
    assert len(names) > 130
    for name in names:
        result = tables.store.read(name)
        assert tuple(result) == tables.store.KEYS, name
        assert result["origin"] in ("measured", "published"), name
        assert result["command"] or result["source"], f"{name}: whence?"
        assert result["rows"], name


def test_what_a_benchmark_writes_has_its_command_and_versions(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables.store, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/chaos.py", "--kills", "50"])
    tables.store.write("some/thing", "a thing", [{"value": 1.5}], seeds=[3])
    result = json.loads((tmp_path / "some" / "thing.json").read_text())
    assert tuple(result) == tables.store.KEYS
    assert result["command"] == "python benchmarks/chaos.py --kills 50"
    assert result["versions"]["parity"]
    assert (result["seeds"], result["rows"]) == ([3], [{"value": 1.5}])
