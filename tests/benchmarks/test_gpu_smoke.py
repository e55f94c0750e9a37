"""What is measured on a GPU runs in full on an emulated one, so that it is right when there is one."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.emulated_device import emulated

ROOT = Path(__file__).parents[2]


def test_every_check_runs_and_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    monkeypatch.setattr(sys, "argv", ["benchmarks/gpu_smoke.py"])
    import gpu_smoke
    import store

    monkeypatch.setattr(store, "RESULTS", tmp_path)
    with emulated():
        gpu_smoke.main(gpu_smoke.TINY)
    kept = json.loads((tmp_path / "gpu_smoke.json").read_text())
    rows = {row["what"]: row for row in kept["rows"]}
    assert not [row["error"] for row in rows.values() if "error" in row]
    # Speed means nothing here.
    assert [name for name, row in rows.items() if not row["passed"] and "bare loop" not in name] == []
    for kind in ("eager", "fused", "compiled", "CUDA graph"):
        assert f"{kind}: launches of a step" in rows
    assert all(name in capsys.readouterr().out for name in [*rows][:1])
    assert kept["command"] == "python benchmarks/gpu_smoke.py"


def test_an_error_is_a_line_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import gpu_smoke

    def fails(sizes: object) -> list[dict[str, object]]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def works(sizes: object) -> list[dict[str, object]]:
        return [gpu_smoke.row("fine", 1.0, "1", True)]

    monkeypatch.setattr(gpu_smoke, "CHECKS", (fails, works))
    found = gpu_smoke.measured(gpu_smoke.TINY)
    assert [row["passed"] for row in found] == [False, True]
    assert "OutOfMemoryError: CUDA out of memory." in gpu_smoke.table(found)
