"""The report: the same bytes again, nothing from elsewhere, and names that are only ever text."""

import base64
import csv
import io
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas
import pytest
from markdown_it import MarkdownIt
from matplotlib import pyplot
from PIL import Image

from parity.evaluation.report.figures import families, pictures_of_all
from parity.evaluation.report.files import TABLES, latex
from parity.evaluation.report.frame import frame_of
from parity.evaluation.report.report import write_report
from parity.evaluation.report.tables import csv_text
from tests.conftest import need

MARKUP = "<script>alert(1)</script>|x$y$"
UNAVAILABLE = [0, 0.01, 0.05, 0.1, 0.2]
CLASSES = [str(digit) for digit in range(10)]


def an_image(number: int) -> np.ndarray:
    """A picture to stand for a query: uint8 (28, 28)."""
    return np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)


def a_panel(k: int, r: int, image: Callable[[int], np.ndarray]) -> list[dict[str, Any]]:
    """Two groups, in each of which the last reconstruction is wrong."""
    groups = []
    for first in (0, k):
        queries = [image(first + place) for place in range(k)]
        said = [str((first + place) % 10) for place in range(k)]
        mixed = np.mean(queries, axis=0).astype(np.uint8)
        groups.append(
            {
                "queries": queries,
                "parity_queries": [mixed] * r,
                "targets": said,
                "base": said,
                "parity": ["3"] * r,
                "decoded": [*said[:-1], "8"],
                "wrong": [False] * (k - 1) + [True],
            }
        )
    return groups


def a_code(
    name: str, k: int, degraded: float | None, kind: str = "trained", image: Callable[[int], np.ndarray] = an_image
) -> dict[str, Any]:
    """A (k, 1) code with numbers made up around an A_d; without redundancy where that is None."""
    code: dict[str, Any] = {
        "name": name, "kind": kind, "about": f"What {name} does, in one sentence.", "k": k, "r": 1, "n": k + 1,
        "extra_workers": 1 / k, "extra_parameters": 178110, "multiply_adds": 1.0,
        "extra_multiply_adds": 1 / k, "coding": 0.0, "extra_bytes_up": 1 / k, "extra_bytes_down": 1 / k,
        "groups": 10000 // k, "queries_left_over": 10000 % k,
        "A_a": {"value": 0.9793, "low": 0.9763, "high": 0.9819},
        "loss": {}, "against": [],
        "A_d": {}, "reconstruction": {}, "mse": None, "per_class": None, "confusion": None, "calibration": None,
        "panel": [],
    }  # fmt: skip
    lost = 0.1 if degraded is None else degraded
    code["A_o"] = {
        str(f): {
            "value": (1 - f) * 0.9793 + f * lost, "standard_error": 0.0004 if k > 6 else None,
            "slow": 0.9 - f, "together": 0.8 - f,
        }
        for f in UNAVAILABLE
    }  # fmt: skip
    if degraded is None:
        nothing = dict.fromkeys(("extra_multiply_adds", "extra_bytes_up", "extra_bytes_down"), 0.0)
        return {**code, **nothing, "r": 0, "n": k, "extra_workers": 0.0, "extra_parameters": 0, "multiply_adds": None}
    interval = {"low": degraded - 0.006, "high": degraded + 0.006}
    code["A_d"]["1"] = {"value": degraded, **interval, "worst": degraded - 0.01, "worst_position": k - 1}
    code["loss"]["1"] = {"value": 0.9793 - degraded, "low": 0.974 - degraded, "high": 0.984 - degraded}
    code["reconstruction"]["1"] = {"value": degraded + 0.004, **interval}
    random = np.random.default_rng(k)
    confusion = random.poisson(100 * (1 - degraded), (10, 10)) + np.diag([int(900 * degraded)] * 10)
    code["confusion"] = confusion.tolist()
    code["per_class"] = (confusion.diagonal() / confusion.sum(1)).tolist()
    confidence = np.linspace(0.05, 0.95, 10)
    code["calibration"] = {
        "confidence": [float("nan"), *confidence[1:]],
        "accuracy": [float("nan"), *(confidence[1:] ** 1.5)],
        "count": [0, 3, 12, 40, 77, 130, 200, 390, 900, 8200],
        "error": 0.021,
    }
    code["calibration"]["base"] = dict(code["calibration"])
    return {**code, "mse": 3.1 / degraded, "panel": a_panel(k, 1, image), "evidence": an_evidence(k, image)}


def an_evidence(k: int, image: Callable[[int], np.ndarray]) -> dict[str, Any]:
    """Where the evidence for a right and for a wrong reconstruction lay."""
    queries = [image(place) for place in range(k)]
    examples = [
        {
            "right": position == 0,
            "position": position,
            "target": "3",
            "decoded": "3" if position == 0 else "8",
            "queries": queries,
            "attributions": np.random.default_rng(position).normal(size=(k, *queries[0].shape[:2])),
            "shares": [1 / k] * k,
        }
        for position in (0, k - 1)
    ]
    return {"explainer": "InputXGradient", "groups": 32, "right": 0.75, "wrong": 0.25, "examples": examples}


def a_comparison(image: Callable[[int], np.ndarray] = an_image) -> dict[str, Any]:
    """Ten codes at k of 2, 3 and 8."""
    codes = []
    for k, add, berrut in ((2, 0.945, 0.871), (3, 0.884, 0.793), (8, 0.587, 0.372)):
        codes += [
            a_code(f"mlp_k{k}_add", k, add, image=image),
            a_code("approxifer", k, berrut, "baseline", image),
            a_code("no_redundancy", k, None, "baseline"),
        ]
    codes.insert(1, a_code("mlp_k2_concat", 2, 0.961, image=image))
    timing = [
        {"name": code["name"], "k": code["k"], "r": code["r"], "G": many, "encode_ms": 0.0123 / many**0.5,
         "decode_ms": 0.0456 / many**0.5, "forward_ms": 0.0987}
        for code in codes if code["r"] for many in (1, 256)
    ]  # fmt: skip
    return {
        "dataset": "MNIST", "split": "test", "measure": "top1", "classes": CLASSES, "unavailable": UNAVAILABLE,
        "base": {"name": "mlp_base", "weights": "shared/weights/mnist-base-mlp.t7", "queries": 10000,
                 "in_words": "9793 / 10000 correct (97.93 %)", "parameters": 178110, "multiply_adds": 177800},
        "paired": False, "codes": codes, "timing": timing,
    }  # fmt: skip


def many_codes() -> dict[str, Any]:
    """Codes of long names, one of them of two parity queries, and what sets some of them apart."""
    names = (
        "cells_kl_towards_the_base_model_of_a_longer_name",
        "learned_encoder_at_50%_of_the_cost",
        "A & B: of a package",
    )
    codes = [
        a_code(f"{name}_k{k}", k, 0.95 - 0.05 * index - 0.01 * k)
        for k in (2, 3, 4, 8)
        for index, name in enumerate(names)
    ]
    two = a_code("mlp_k4_r2_berrut_of_two_parity_queries", 4, 0.9) | {"r": 2, "n": 6}
    for measured in ("A_d", "loss", "reconstruction"):
        two[measured]["2"] = dict(two[measured]["1"])
    for code, other in itertools.permutations(codes[:3], 2):
        code["against"].append(
            {"value": 0.01, "low": -0.002, "high": 0.02} | {key: other[key] for key in ("name", "k", "r")}
        )
    return {**a_comparison(), "codes": [*codes, two]}


def small(**changes: Any) -> dict[str, Any]:
    """A comparison of two codes."""
    comparison = a_comparison()
    return {**comparison, "codes": [comparison["codes"][0], comparison["codes"][3]], **changes}


class Page(HTMLParser):
    """What a page is made of: its tags, what they refer to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a small report."""
    return write_report(small(), tmp_path_factory.mktemp("report"))


def test_every_file_is_there_and_the_second_time_it_has_the_same_bytes(tmp_path: Path, written: list[Path]) -> None:
    again, folder = write_report(small(), tmp_path), written[0].parent
    names = [path.relative_to(folder).as_posix() for path in written]
    assert {"results.csv", "results.json", "timing.csv", "report.md", "report.html"} < set(names)
    assert {
        "figures/overall_k2.png",
        "figures/degraded_against_k.png",
        "figures/degraded_by_class.png",
        "figures/confusions_01_mlp_k2_add.png",
        "figures/calibration_01_mlp_k2_add.png",
        "figures/groups_01_mlp_k2_add.png",
        "figures/evidence_01_mlp_k2_add.png",
    } < set(names)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(written)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.verify()
                assert not image.info.keys() - {"dpi"}


def test_the_csv_has_a_row_for_each_code_and_no_times(tmp_path: Path, written: list[Path]) -> None:
    before, comparison = written[0].with_name("results.csv").read_bytes(), small()
    code, without = rows_of(written[0].parent)
    assert (code["name"], code["k"], code["A_d_1"], code["A_d_1_worst_position"]) == (
        "mlp_k2_add",
        "2",
        "0.945000",
        "1",
    )
    assert (code["A_a_low"], code["reconstruction_1_high"]) == ("0.976300", "0.951000")
    assert (code["A_o_0.1"], code["A_o_0.1_standard_error"], code["extra_workers"]) == ("0.975870", "", "0.500000")
    assert (code["A_o_0.1_slow"], code["A_o_0.1_together"]) == ("0.800000", "0.700000")
    assert (without["A_d_1"], without["mse"], without["multiply_adds"], without["extra_parameters"]) == (
        "",
        "",
        "",
        "0",
    )
    comparison["timing"][0]["encode_ms"] = 77.0
    write_report(comparison, tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert "77" in (tmp_path / "timing.csv").read_text()


def test_the_json_is_the_comparison_without_images_and_nan(tmp_path: Path) -> None:
    comparison = small()
    comparison["codes"][0]["mse"] = np.float64("inf")
    comparison["codes"][0]["per_class"] = np.array(comparison["codes"][0]["per_class"])
    write_report(comparison, tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert not re.search(r"NaN|Infinity|queries\": \[|attributions", text)
    stored = json.loads(text)
    assert stored["base"] == comparison["base"]
    assert stored["codes"][0]["A_d"] == comparison["codes"][0]["A_d"]
    assert stored["codes"][0]["mse"] is None
    assert stored["codes"][0]["panel"][0]["decoded"] == ["0", "8"]
    assert stored["codes"][0]["evidence"]["examples"][1]["decoded"] == "8"
    assert "queries" in comparison["codes"][0]["panel"][0], "the caller's comparison was changed"


ODD = r"50%_of #1 & {x} ~^ \\ <a> | $y$"


def test_a_latex_table_has_odd_names_as_text() -> None:
    comparison = small()
    comparison["codes"][0]["name"] = ODD
    text = latex(comparison)
    assert r"50\%\_of \#1 \& \{x\} \textasciitilde{}\textasciicircum{} \textbackslash{}" in text
    assert r"\textless{}a\textgreater{} \textbar{} \$y\$" in text
    tables = text.split(r"\end{table}")[:-1]
    assert len(tables) == 4  # accuracies, what users get, also of stragglers that are not alike, costs
    for table in tables:
        head, *rows = [line.removesuffix(r" \\") for line in table.splitlines() if line.endswith(r" \\")]
        columns = len(re.findall(r"(?<!\\)&", head)) + 1
        assert re.search(r"\\begin\{tabular\}\{(\w+)\}", table)[1] == "l" + "r" * (columns - 1)
        assert [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows] == [columns] * 2
        assert not re.search(r"(?<!\\)[%#]|(?<!\\)_", "".join(rows))
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.isascii()


@pytest.mark.slow
def test_latex_compiles_a_table_with_odd_names(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        need(
            Path("/usr/bin/pdflatex"),
            "this needs pdflatex: apt-get install texlive-latex-recommended",
        )
    comparison = many_codes()
    comparison["codes"][0]["name"] = ODD
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs}\usepackage[paperwidth=60cm,margin=1cm]{geometry}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{latex(comparison)}\end{{document}}"
    (tmp_path / "page.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout
    assert (tmp_path / "page.pdf").exists()


def test_every_format_of_the_table_has_the_same_numbers(tmp_path: Path) -> None:
    comparison = small()
    comparison["codes"][0]["name"] = ODD
    frame = frame_of(comparison)
    assert [str(frame[column].dtype) for column in frame.columns[2:]].count("object") == 0
    assert frame["name"][0] == ODD
    assert (frame["k"][0], frame["A_d_1"][0]) == (2, 0.945)
    assert np.isnan(frame["A_d_1"][1])
    for format_, read in (("csv", pandas.read_csv), ("json", pandas.read_json), ("parquet", pandas.read_parquet)):
        name, made = TABLES[format_]
        (tmp_path / name).write_bytes(made(comparison))
        pandas.testing.assert_frame_equal(read(tmp_path / name), frame, check_dtype=False)
    assert "NaN" not in (tmp_path / "table.json").read_text()


def test_the_page_needs_nothing_from_elsewhere(written: list[Path]) -> None:
    page = Page((written[0].parent / "report.html").read_text())
    images = [address for address in page.addresses if address.startswith("data:image/png;base64,")]
    assert len(images) == sum(path.suffix == ".png" for path in written)
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    drawn = {path.read_bytes() for path in written if path.suffix == ".png"}
    assert {base64.b64decode(address.partition(",")[2]) for address in images} == drawn


def test_names_that_hold_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    comparison = small(dataset=MARKUP, classes=[f"_{digit}{MARKUP}" for digit in CLASSES])
    comparison["base"] |= {"name": MARKUP, "weights": MARKUP, "in_words": MARKUP}
    code = comparison["codes"][0]
    code |= {"name": MARKUP, "about": MARKUP}
    code["panel"][0] |= {"targets": [MARKUP] * 2, "base": [MARKUP] * 2, "decoded": [MARKUP] * 2, "parity": [MARKUP]}
    comparison["timing"][0]["name"] = MARKUP
    files = write_report(comparison, tmp_path)
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in files)
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in page.tags
    assert " ".join(page.words).count(MARKUP) >= 7
    assert rows_of(tmp_path)[0]["name"] == MARKUP
    assert next(csv.DictReader(io.StringIO((tmp_path / "timing.csv").read_text())))["name"] == MARKUP

    shown = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text())
    rendered = Page(shown)
    assert "script" not in rendered.tags
    assert "".join(rendered.words).count(MARKUP) >= 7
    tables = shown.split("<table>")[1:]
    assert len(tables) == 6  # accuracies, what users get, also of stragglers that are not alike, costs, times, evidence
    for table in tables:
        rows = [row.count("<td") for row in table.split("<tr>") if "<td" in row]
        assert set(rows) == {table.count("<th>") + table.count("<th ")}, "a name has split a row"


def test_no_name_is_a_formula_to_a_spreadsheet() -> None:
    rows = [["=1+1", "-1.5"], ["@SUM(A1)", "+2"], ["-x", ""], ["mlp", "nan"]]
    assert csv_text(["name", "value"], rows) == "name,value\n'=1+1,-1.5\n'@SUM(A1),+2\n'-x,\nmlp,nan\n"


def test_what_a_code_lacks_is_an_en_dash(written: list[Path]) -> None:
    lines = written[0].with_name("report.md").read_text().splitlines()
    rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| no_redundancy")
    )
    accuracies, overall, stragglers, costs = rows
    assert accuracies[2:] == ["97.93 (97.63–98.19)", *["–"] * 5]
    assert "–" not in overall + stragglers
    assert costs[4] == "–"


@pytest.mark.parametrize("timing", [[], [{"name": "a", "k": 2, "r": 1, "G": 1, "encode_ms": None, "decode_ms": 0.1,
                                          "forward_ms": 0.2}]])  # fmt: skip
def test_a_comparison_of_codes_without_redundancy_alone_has_a_report(tmp_path: Path, timing: list) -> None:
    write_report(small(codes=[a_code("none", 2, None)], timing=timing), tmp_path)
    assert "none" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "figures").iterdir())) == 1


def test_times_are_told_in_microseconds(tmp_path: Path) -> None:
    times = {"encode_ms": 0.0001234, "decode_ms": 0.0123, "forward_ms": 12.5}
    write_report(small(codes=[], timing=[{"name": "a", "k": 2, "r": 1, "G": 256, **times}]), tmp_path)
    assert "| a | (2, 1) | 256 | 0.123 | 12.3 | 12.4 | 12,500 |" in (tmp_path / "report.md").read_text()


def test_boxes_are_measured_by_iou_and_have_no_classes(tmp_path: Path) -> None:
    code = {**a_code("box_k2_add", 2, 0.6), "per_class": None, "confusion": None, "calibration": None}
    for group in code["panel"]:
        group["queries"] = [np.zeros((8, 10, 3), dtype=np.uint8).tolist()] * 2
    write_report(small(codes=[code], measure="iou", classes=None), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "0.6000 (0.5940–0.6060)" in text
    assert "mean IoU" in text
    assert "top-1" not in text


def test_the_caption_of_bars_is_what_they_are() -> None:
    comparison = a_comparison()

    def caption() -> str:
        return next(picture.caption for picture in pictures_of_all(comparison) if picture.stem == "degraded_against_k")

    assert caption() == "A_d against k, with 95 % confidence intervals."
    bars = [code["A_d"]["1"] for code in comparison["codes"] if code["A_d"]]
    bars[0]["sd"] = 0.006
    assert caption() == (
        "A_d against k, with ± standard deviations over seeds, or of codes without seeds 95 % confidence intervals."
    )
    for bar in bars:
        bar["sd"] = 0.006
    assert caption() == "A_d against k, with ± standard deviations over seeds."


def test_of_many_classes_the_worst_are_shown(tmp_path: Path) -> None:
    count = 100
    code = a_code("resnet_k2_add", 2, 0.7)
    code |= {"confusion": (np.eye(count, dtype=int) * 9 + 1), "per_class": np.linspace(0.2, 0.9, count)}
    write_report(small(codes=[code], classes=[f"class {index}" for index in range(count)]), tmp_path)
    assert "of the 20 true classes for which it is lowest" in (tmp_path / "report.md").read_text()
    assert "Strongest confusions" in (tmp_path / "report.md").read_text()


def test_one_code_at_several_k_is_a_family() -> None:
    found = families(a_comparison()["codes"])
    assert [(label, [code["k"] for code in members]) for label, members in found] == [
        ("mlp_add", [2, 3, 8]),
        ("mlp_k2_concat", [2]),
        ("approxifer", [2, 3, 8]),
        ("no_redundancy", [2, 3, 8]),
    ]
    two = [{"name": "berrut", "k": 2, "r": r} for r in (1, 2)]
    assert [label for label, _ in families(two)] == ["berrut, r = 1", "berrut, r = 2"]


def test_drawing_leaves_a_notebook_as_it_was(tmp_path: Path) -> None:
    settings = matplotlib.rcParams.copy()
    write_report(small(), tmp_path)
    assert matplotlib.rcParams.copy() == settings
    assert pyplot.get_fignums() == []


def test_settings_of_a_notebook_do_not_change_figures(tmp_path: Path, written: list[Path]) -> None:
    with matplotlib.rc_context({"savefig.dpi": 30, "font.size": 30, "text.parse_math": True, "savefig.bbox": "tight"}):
        again = write_report(small(), tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


PROBE = """<script>
addEventListener("load", () => parent.postMessage(`${innerWidth} pixels: ${document.documentElement.scrollWidth} wide, `
  + `${[...document.images].filter(image => image.naturalWidth).length} images, `
  + `${document.scripts.length} script;`, "*"))
</script></body>"""
FRAMES = """<script>addEventListener("message", event => document.body.append(event.data))</script>
<iframe src="probed.html" width="1280" height="900" style="border: 0"></iframe>
<iframe src="probed.html" width="390" height="900" style="border: 0"></iframe>"""


class Browser:
    """Debian's Chromium, with no way out to the network."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if program is None:
            pytest.skip("no Chromium here: apt-get install chromium")
        self.program, self.folder = program, folder

    def look(self, name: str) -> tuple[str, list[str], list[str]]:
        """Open a file: its DOM once it is loaded, its lines on the console, and what it asked others for."""
        log = self.folder / "net.json"
        done = subprocess.run(
            [self.program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr",
             "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={self.folder / 'profile'}",
             f"--log-net-log={log}", "--hide-scrollbars", "--virtual-time-budget=5000",
             "--dump-dom", (self.folder / name).as_uri()],
            capture_output=True, text=True, timeout=240, env={**os.environ, "HOME": str(self.folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        requests = [
            what["url"]
            for what in (event.get("params", {}) for event in json.loads(log.read_text())["events"])
            if what.get("network_isolation_key", "").startswith("file:")  # others are the browser's own
            and not what["url"].startswith("file:")
        ]
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], requests


def test_a_browser_shows_it_without_error_or_request(tmp_path: Path) -> None:
    browser = Browser(tmp_path)
    comparison = small(dataset=MARKUP)
    comparison["codes"][0] |= {"name": MARKUP, "about": MARKUP}
    files = write_report(comparison, tmp_path)
    dom, console, requests = browser.look("report.html")
    assert "Code by code" in dom
    assert (console, requests) == ([], [])

    page = (tmp_path / "report.html").read_text().replace("default-src 'none';", "script-src 'unsafe-inline';")
    (tmp_path / "probed.html").write_text(page.replace("</body>", PROBE))
    (tmp_path / "frames.html").write_text(FRAMES)
    dom, _, _ = browser.look("frames.html")
    images = sum(path.suffix == ".png" for path in files)
    for width in (1280, 390):
        assert f"{width} pixels: {width} wide, {images} images, 1 script;" in dom, dom[-500:]

    (tmp_path / "control.html").write_text("<img src='http://example.test/a.png'><script>console.log('here')</script>")
    _, console, requests = browser.look("control.html")
    assert len(console) == 1
    assert requests == ["http://example.test/a.png"]
