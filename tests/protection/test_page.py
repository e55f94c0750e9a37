"""docs/protect.md is right: its code runs from top to bottom."""

from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "protect.md"


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("parity.export")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for part in PAGE.read_text().split("```python\n")[1:]:
        exec(part.split("```")[0], names)
    assert (tmp_path / "home" / "mine" / "best.ckpt").exists()
    assert (tmp_path / "report" / "report.html").exists()
    assert (tmp_path / "compared" / "results.tex").exists()
    assert names["predictions"].shape == (2, 4, 10)
