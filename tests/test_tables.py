"""Figures have one source: pages are as the results have them, and every result names where it comes from."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import tables

    return tables


def test_pages_and_the_list_of_experiments_are_as_the_results_have_them(tables: ModuleType) -> None:
    for page in tables.PAGES:
        assert page.read_text() == tables.filled(page.read_text()), f"{page}: run python benchmarks/tables.py"
    assert tables.MEASURED.read_text() == tables.measured(), "run python benchmarks/tables.py"


def test_a_page_that_differs_is_written_as_the_results_have_it(tables: ModuleType) -> None:
    page = "before\n<!-- table: lost -->\n| by hand |\n<!-- end -->\nafter\n"
    assert tables.filled(page) == f"before\n<!-- table: lost -->\n{tables.lost()}\n<!-- end -->\nafter\n"


def test_every_table_stands_on_a_page_and_every_result_in_a_table(tables: ModuleType) -> None:
    pages = "".join(page.read_text() for page in tables.PAGES)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in pages] == []


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
