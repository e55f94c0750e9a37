"""The site and the comparison page in a real browser, at 1280 and 390 px, light and dark.

Contrast meets WCAG AA, pictures have alt texts, nothing is cut off, the main table shows whole, search works offline.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parity.evaluation.report.report import write_report
from tests.conftest import ROOT, need
from tests.evaluation.report.test_report import a_comparison, many_codes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """axe-core and a driver of Chromium, from npm."""
    if shutil.which("chromium") is None or shutil.which("npm") is None:
        need(Path("/usr/bin/chromium"), "this needs chromium and npm: apt-get install chromium npm")
    folder = tmp_path_factory.mktemp("tools")
    packages = ("axe-core@4", "puppeteer-core@24")  # the last puppeteer for the node of Debian 12
    subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), *packages], check=True)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", str(ROOT / "docs"), str(folder / "html")]
    subprocess.run(command, check=True)
    return folder / "html"


def look(tools: Path, *pages: str, wait_for: str | None = None) -> list[dict[str, Any]]:
    """Open pages from their files and return what is seen on each, at each width and in each theme."""
    asked = json.dumps([{"url": page, "waitFor": wait_for} for page in pages])
    command = ["node", str(ROOT / "tests" / "look.mjs"), str(tools)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(seen) == 4 * len(pages)
    assert all(each["checked"] for each in seen)
    return seen


def faults(seen: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong, a line each."""
    return [
        f"{each['url']} at {each['width']} px, {each['theme']}: {fault}"
        for each in seen
        for fault in [
            *each["violations"],
            *([f"{each['over']} px too wide"] if each["over"] > 0 else []),
            *([f"a term is {each['terms']} px too wide"] if each["terms"] > 0 else []),
        ]
    ]


def test_every_page_of_the_site_is_readable_and_not_cut_off(site: Path, tools: Path) -> None:
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    assert len(pages) > 40
    assert faults(look(tools, *(page.as_uri() for page in pages))) == []


def test_the_search_works_from_files_without_a_server(site: Path, tools: Path) -> None:
    results = "#search-results ul.search li"
    seen = look(tools, f"{(site / 'search.html').as_uri()}?q=erasure", wait_for=results)
    assert min(each["results"] for each in seen) > 2
    assert faults(seen) == []


def test_the_comparison_page_is_readable_and_its_main_table_whole(tools: Path, tmp_path: Path) -> None:
    write_report(a_comparison(), tmp_path / "report")
    seen = look(tools, (tmp_path / "report" / "report.html").as_uri())
    assert faults(seen) == []
    assert [max(each["tables"]) for each in seen if each["width"] == 1280] == [0, 0]


def test_many_codes_of_long_names_show_whole_or_scroll_in_their_own_boxes(tools: Path, tmp_path: Path) -> None:
    comparison = many_codes()
    assert len(comparison["codes"]) >= 12
    write_report(comparison, tmp_path / "report")
    seen = look(tools, (tmp_path / "report" / "report.html").as_uri())
    assert faults(seen) == []
    wide, narrow = ([each["tables"] for each in seen if each["width"] == width] for width in (1280, 390))
    assert wide == [[0] * 5] * 2  # accuracies, what users get, costs, paired differences, times
    assert all(each[0] > 0 for each in narrow)


def test_too_little_contrast_and_width_are_found(tools: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    faint = "<p style='color: #ccc; width: 500px'>Faint</p>"
    page.write_text(f"<html lang='en'><body style='background: #fff; margin: 0'>{faint}</body></html>")
    found = faults(look(tools, page.as_uri()))
    assert len([each for each in found if "color-contrast" in each]) == 4
    assert len([each for each in found if "px too wide" in each]) == 2
