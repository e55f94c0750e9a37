"""What the pages show works: their code runs, and their pictures have words for those who do not see them."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
ELSEWHERE = {
    "training.md": "tests/training/test_train_model.py",
    "extending.md": "tests/test_extending.py",
    "export.md": "tests/export/test_page.py",
    "protect.md": "tests/protection/test_page.py",
}


def code_of(page: Path) -> str:
    """Return a page's blocks of Python, as one program."""
    return "\n\n".join(_PYTHON.findall(page.read_text()))


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path, train: Callable[..., int], tmp_path: Path) -> None:
    if page.name in ELSEWHERE:
        assert page.name in (ROOT / ELSEWHERE[page.name]).read_text()
        return
    code = code_of(page)
    if not code:
        return
    if "Experiment(" in code:  # after the quickstart
        assert train("--dataset", "Digits", "--experiment_name", "mlp_k2_add", "--set", "trainer.max_epochs=1") == 0
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_picture_has_an_alt_text_and_is_there(page: Path) -> None:
    text = page.read_text()
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
    pictures += [(alt, path) for path, alt in re.findall(r"```\{image\} (\S+)\n(?::class: \S+\n)?:alt: (.*)", text)]
    assert len(pictures) == text.count("![") + text.count("```{image}")
    for alt, path in pictures:
        assert len(alt) > 20, f"{path}: what does it show?"
        assert (page.parent / path).is_file()


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert [page.stem for page in PAGES if page.stem != "index" and f"\n{page.stem}\n" not in index] == []
