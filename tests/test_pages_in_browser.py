"""The site and the comparison page in a real browser: contrast, nothing cut off, the main table whole."""

import base64
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parity.evaluation.report.report import write_report
from tests.conftest import ROOT, need
from tests.evaluation.report.test_report import a_comparison

pytestmark = pytest.mark.slow

_LOOK = """<script src="{axe}"></script><script>
document.documentElement.dataset.theme = document.documentElement.dataset.mode = "{theme}";
setTimeout(() => axe.run(document, {{runOnly: ["color-contrast", "image-alt"]}}).then(found => {{
  const box = document.querySelector(".box");
  const result = document.createElement("pre");
  result.id = "looked";
  result.textContent = btoa(unescape(encodeURIComponent(JSON.stringify({{
    violations: found.violations.flatMap(each => each.nodes.map(node => each.id + ": " + node.html)),
    checked: found.passes.length,
    over: document.documentElement.scrollWidth - innerWidth,
    table: box ? box.scrollWidth - box.clientWidth : 0,
  }}))));
  document.body.append(result);
}}), 300);
</script></body>"""


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """axe-core, from npm."""
    if shutil.which("chromium") is None or shutil.which("npm") is None:
        need(Path("/usr/bin/chromium"), "this needs chromium and npm: apt-get install chromium npm")
    folder = tmp_path_factory.mktemp("axe")
    subprocess.run(["npm", "install", "--silent", "--prefix", str(folder), "axe-core@4"], check=True)
    return folder / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-n", str(ROOT / "docs"), str(folder / "html")]
    subprocess.run(command, check=True)
    return folder / "html"


def look(page: Path, axe: Path, width: int, theme: str) -> dict:
    """Open a page and return what axe-core finds, and how far the page and its first table are too wide."""
    copy = page.with_name(f"looked-at-{page.name}")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())  # axe-core is a script
    copy.write_text(text.replace("</body>", _LOOK.format(axe=axe.as_uri(), theme=theme)))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
               "--virtual-time-budget=20000", "--dump-dom", copy.as_uri()]  # fmt: skip
    html = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    copy.unlink()
    found = re.search(r'<pre id="looked">(.*?)</pre>', html)
    assert found, html[-500:]
    return dict(json.loads(base64.b64decode(found[1])))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 500])  # chromium's window is at least 500 wide
@pytest.mark.parametrize("page", ["index", "getting_started", "codes", "results", "training", "api/parity.coders"])
def test_a_page_of_the_site_is_readable_and_not_cut_off(
    site: Path, axe: Path, page: str, width: int, theme: str
) -> None:
    seen = look(site / f"{page}.html", axe, width, theme)
    assert seen["violations"] == []
    assert seen["checked"]
    assert seen["over"] <= 0


def test_the_search_has_its_index_beside_it(site: Path) -> None:
    page = (site / "search.html").read_text()
    assert (site / "searchindex.js").stat().st_size > 10_000
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="https?://(?!.*canonical)', page)


def test_the_comparison_page_is_readable_and_its_main_table_whole(axe: Path, tmp_path: Path) -> None:
    write_report(a_comparison(), tmp_path / "report")
    seen = look(tmp_path / "report" / "report.html", axe, 1280, "light")
    assert seen["violations"] == []
    assert seen["checked"]
    assert seen["over"] <= 0
    assert seen["table"] == 0


def test_too_little_contrast_is_found(axe: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html lang='en'><body style='background: #fff'><p style='color: #ccc'>Faint</p></body></html>")
    assert look(page, axe, 1280, "light")["violations"] == ['color-contrast: <p style="color: #ccc">Faint</p>']
