"""The comparison of policies and the demonstration: ``benchmarks/serving.py`` and ``benchmarks/serve_demo.py``."""

import argparse
import asyncio
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console

from parity.serving.disturbances import Frozen, Slow
from parity.serving.load import linear_networks
from parity.serving.measuring.contest import Load
from parity.storage.files import write_json

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return script("serving")


def arguments(comparison: ModuleType, folder: Path, *options: str) -> argparse.Namespace:
    args = comparison.get_parser().parse_args(["--results", str(folder), *options])
    args.extent, args.k, args.load = comparison.FULL, [2], [0.5]
    return args


def fake(p99: float, rebuilt: int = 0) -> dict[str, Any]:
    """Return an arm's results."""
    return {
        "queries": 1000, "work": 1.5, "accuracy": 0.97, "sources": {"rebuilt": {"count": rebuilt}},
        "all": {"p50": 100.0, "p99": p99, "p99.5": p99, "p99.9": 2 * p99},
    }  # fmt: skip


def keep(comparison: ModuleType, args: argparse.Namespace, fault: str, coded: list[float]) -> None:
    """Keep runs of a cell in which coded service has these p99, and all others 200."""
    for repeat, p99 in enumerate(coded):
        results = {name: fake(p99 if name == "coded" else 200.0, rebuilt=30) for name in comparison.ARMS}
        cell = comparison.Cell("threads", 2, 0.5, fault, repeat)
        write_json(comparison.cell_file(args, cell), {"hedge_delay": 1.1, "arms": results})


def test_the_report_has_medians_of_ratios_what_is_missed_and_what_is_open(
    comparison: ModuleType, tmp_path: Path
) -> None:
    args = arguments(comparison, tmp_path)
    keep(comparison, args, "slow", [150.0, 120.0, 130.0])
    keep(comparison, args, "frozen", [190.0])
    text = comparison.report(args)
    assert "| threads, k = 2, 50%, slow | coded | 100 | 130 | 130 | 260 | 3.0% | 0.9700 | 1.50 |" in text
    assert "| threads, k = 2, 50%, slow | p99 / hedged | 0.65 | 0.85 |" in text
    assert "| threads, k = 2, 50%, slow | p99.9 / p50 | 2.60 | 2.5, missed |" in text
    assert "| threads, k = 2, 50%, frozen | p99 / hedged | 0.95 | 0.85, missed |" in text
    assert "- threads, k = 2, 50%, frozen: 1 of 3 runs" in text
    assert "- threads, k = 2, 50%, killed: 0 of 3 runs" in text
    assert "slow: " not in text.partition("Not measured:")[2]


def test_what_was_measured_is_not_measured_again(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(comparison, tmp_path, "--fault", "slow", "frozen")
    keep(comparison, args, "slow", [150.0, 120.0, 130.0])
    keep(comparison, args, "frozen", [190.0])
    measured: list[str] = []
    monkeypatch.setattr(comparison, "data_and_networks", lambda args, k: None)
    monkeypatch.setattr(comparison, "measured", lambda args, cell, served: measured.append(cell.name))
    comparison.pools(args)
    assert measured == ["threads_k2_load50_frozen_1", "threads_k2_load50_frozen_2"]


def test_the_simulated_part_writes_its_table_and_repeats_nothing(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(comparison, tmp_path, "--quick")
    row = dict(workers=8, k=2, r=1, fault="slow", faulty=0.08, seed=0)
    rows = [
        {**row, "load": load, "policy": name, "p50": 100.0, "p99": p99, "p99.9": p99, "hedge_delay": 1.1}
        for load in (0.3, 0.9)
        for name, p99 in (("coded", 150.0), ("hedged", 210.0))
    ]
    write_json(tmp_path / comparison.FULL.name / "simulated" / "slow_m8.json", {"rows": rows})
    monkeypatch.setattr(comparison.sweep, "run", lambda *_: pytest.fail("simulated again"))
    comparison.simulated(args)
    table = (tmp_path / comparison.FULL.name / "simulated" / "choice.md").read_text()
    assert "lower p99 with every seed: coded at 30%, 90% load" in table


def test_one_command_fills_the_page_with_what_was_measured(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serving_results
    import store
    import tables

    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in serving_results.TABLES))
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    monkeypatch.setattr(serving_results, "IMAGES", tmp_path)
    monkeypatch.setattr(tables, "PAGES", [page])
    monkeypatch.setattr(tables, "measured", lambda: "")
    monkeypatch.setattr(tables, "MEASURED", tmp_path / "measured.json")
    tables.main()
    assert page.read_text().count(serving_results.NOT_YET) == len(serving_results.TABLES)

    args = arguments(comparison, tmp_path / "serving")
    keep(comparison, args, "slow", [150.0, 120.0, 130.0])
    folder = args.results / args.extent.name
    rows = [
        {"workers": 8, "k": 2, "r": 1, "fault": "slow", "faulty": 0.08, "seed": 0, "load": load, "policy": name,
         "p50": 100.0, "p99": p99, "p99.9": p99, "hedge_delay": 1.1}
        for load, coded in ((0.3, 150.0), (0.9, 300.0))
        for name, p99 in (("coded", coded), ("hedged", 210.0))
    ]  # fmt: skip
    write_json(folder / "simulated" / "slow_m8.json", {"rows": rows})
    held = dict(workers="sleeping", load=0.5, arm="coded", fault="slow", p50=101.0, measured=1.6, simulated=1.5)
    write_json(folder / "validation" / "sleeping.json", {**held, "off": -0.0625})
    comparison.fill_page(args)
    text = page.read_text()
    assert serving_results.NOT_YET not in text
    assert "| threads | 2 | 50% | slow | coded | 100 | 130 | 130 | 260 | 3.0% | 0.9700 | 1.50 |" in text
    assert "| threads | 2 | 50% | slow | p99 / hedged | 0.65 | 0.85 | 3 |" in text
    assert "| threads | 2 | 50% | slow | p99.9 / p50 | 2.60 | 2.5, missed | 3 |" in text
    assert "| slow | 2 | p99 | 30% | 90% |" in text
    assert "| 8 | 2 | slow | coded 150, 0.71 | hedged 210, 1.43 |" in text
    assert "| sleeping | 50% | coded | slow | 101 | 1.60 | 1.50 | -6% |" in text
    for name in ("serving-k2", "serving-simulated"):
        for theme in ("light", "dark"):
            assert f"images/{name}-{theme}.png" in text
            assert (tmp_path / f"{name}-{theme}.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "hedged", "coded"])
@pytest.mark.parametrize("case", [0, 2], ids=["sleeping", "computing"])
def test_the_simulator_is_within_a_quarter_of_real_pools(comparison: ModuleType, case: int, name: str) -> None:
    fault = None if name == "none" else Slow()
    row = comparison.validated(comparison.VALIDATIONS[case], 1500, fault, name)
    assert abs(row["off"]) <= 0.25, row


def test_the_demonstration_prints_what_users_got_from_each_service() -> None:
    demo = script("serve_demo")
    model = linear_networks(2, 1)
    queries = torch.randn(8, *model.encoder.query_shape)
    services = demo.contenders(model, 2)
    load = Load(
        queries, [i / 20 for i in range(20)], model.base_model(queries).argmax(1), Frozen(every=0.5, freeze=0.4)
    )
    outcomes = asyncio.run(demo.serve(services, load))
    shown = Console(file=io.StringIO(), width=120)
    shown.print(demo.table(services, outcomes))
    assert isinstance(shown.file, io.StringIO)
    rows = [line.replace("│", " ").split() for line in shown.file.getvalue().splitlines() if line.startswith("│")]
    assert [(row[-8 if row[0] != "no" else 0 : -7], row[-7], row[-1]) for row in rows] == [
        (["no", "redundancy"], "2", "100.0%"), (["hedged"], "3", "100.0%"), (["coded"], "3", "100.0%"),
    ]  # fmt: skip


@pytest.mark.slow
def test_the_demonstration_trains_serves_and_ends(tmp_path: Path) -> None:
    demo = script("serve_demo")
    demo.main(demo.get_parser().parse_args(["--runs", str(tmp_path), "--seconds", "3"]))
