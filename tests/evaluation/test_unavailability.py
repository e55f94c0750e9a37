"""The picture that shows why: what users get against the share of unavailable outputs."""

from pathlib import Path

import pytest
from PIL import Image

from parity.evaluation import CodeEvaluation, unavailability


class Half:
    """An evaluation with A_a 0.9, a default prediction that is right in one of ten, and A_o(f) = 0.9 − 0.5 f."""

    k, n, a_a, floor, measures = 2, 3, 0.9, 0.1, ("top1",)

    def overall_accuracy(self, f: float) -> float:
        return 0.9 - 0.5 * f


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict:
    evaluation: CodeEvaluation = Half()  # type: ignore[assignment]
    return unavailability.lines(evaluation, (0.0, 0.1, 0.2))


def test_each_line_has_its_formula_and_its_workers(drawn: dict) -> None:
    lines = drawn["lines"]
    assert lines["no redundancy"]["accuracy"] == pytest.approx([0.9, 0.82, 0.74])
    assert lines["replication"]["accuracy"] == pytest.approx([0.9, 0.892, 0.868])
    assert lines["code"]["accuracy"] == pytest.approx([0.9, 0.85, 0.8])
    assert [line["workers"] for line in lines.values()] == [1, 2, 1.5]


def test_the_text_has_the_best_line_on_top_and_all_meet_where_nothing_is_missing(drawn: dict) -> None:
    rows = unavailability.text(drawn).splitlines()
    assert rows[1].startswith("0.900 │ #")
    column = len("0.900 │ ") + 2 * 3  # of the last share
    at_the_end = "".join(row[column : column + 1] for row in rows[1:12])
    assert at_the_end.index("o") < at_the_end.index("#") < at_the_end.index(".")
    assert "1.5 workers a query" in rows[-1]


def test_equal_accuracies_are_drawn_too(drawn: dict) -> None:
    for line in drawn["lines"].values():
        line["accuracy"] = [0.5] * 3
    assert unavailability.text(drawn).splitlines()[1].startswith("0.500 │ #  #  #")


def test_the_png_is_a_picture_and_nothing_else_is_left(drawn: dict, tmp_path: Path) -> None:
    unavailability.write_png(drawn, tmp_path / "why.png")
    assert Image.open(tmp_path / "why.png").size[0] > 500
    assert [path.name for path in tmp_path.iterdir()] == ["why.png"]
