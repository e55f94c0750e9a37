"""docs/extending.md is right: its four files train, and the page shows them as they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from parity.experiments import Experiment

DOCS = Path(__file__).parents[1] / "docs"
FILES = sorted((DOCS / "extending").glob("*/*/experiment_parameters.py"))


def test_the_page_shows_complete_files_of_under_40_lines() -> None:
    page = (DOCS / "extending.md").read_text()
    assert len(FILES) == 4
    for file in FILES:
        assert f"`docs/{file.relative_to(DOCS)}`\n\n```python\n{file.read_text()}```\n" in page
        assert len(file.read_text().splitlines()) < 40


@pytest.mark.parametrize(
    ("dataset", "name", "epochs", "reach"),
    [
        ("Digits", "mlp_k2_turned", 200, 0.6),
        ("Digits", "mlp_k2_flipped", 60, 0.4),
        ("Digits", "convnet_k2_add", 60, 0.5),
        ("Waves", "mlp_k2_add", 20, 0.6),
    ],
)
def test_each_file_trains(train: Callable[..., int], dataset: str, name: str, epochs: int, reach: float) -> None:
    arguments = ("--experiments_path", str(DOCS / "extending"), "--dataset", dataset, "--experiment_name", name)
    assert train(*arguments, "--set", f"trainer.max_epochs={epochs}") == 0
    assert Experiment(dataset, name).load_test_metrics()["test/overall_top1"] > reach
