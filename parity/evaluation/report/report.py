"""The report of a comparison of codes: numbers, text, and one page that needs nothing from elsewhere."""

import base64
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from parity.evaluation.report import figures
from parity.evaluation.report.figures import Picture
from parity.evaluation.report.files import TABLES, check_formats
from parity.evaluation.report.tables import (
    Cell,
    Measure,
    Table,
    accuracy_table,
    against_table,
    code_in_words,
    cost_table,
    csv_text,
    evidence_table,
    flat_rows,
    form,
    overall_table,
    stragglers_table,
    timing_table,
)
from parity.markdown import escaped
from parity.plain import walk
from parity.settings import user_path
from parity.storage.files import write_json, written_whole
from parity.tasks import measure_name

TIMES = ("name", "k", "r", "G", "encode_ms", "decode_ms", "forward_ms")
_IMAGES = ("queries", "parity_queries", "attributions")
FIGURES = "figures"
"""The folder, within a report's, of its figures."""


class Section(NamedTuple):
    """What a report shows of one code."""

    name: str
    kind: str
    size: str
    about: str
    pictures: list[Picture]
    evidence: Picture | None


def write_report(comparison: Mapping[str, Any], folder: str | Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write results.csv, results.json, timing.csv, report.md, report.html and figures/*.png.

    results.csv depends on the codes' accuracies and costs alone, not on times.

    Args:
        comparison: what was compared; ``results.json`` holds it, but for its images.
        folder: made if it is not there; files of these names are replaced.
        formats: further ones, of figures ('svg', 'pdf') and of the table of results ('latex', 'json', 'parquet').

    Returns:
        The files, figures last.

    Raises:
        ParityError: the folder cannot be written to, or there is no such format.
    """
    folder = user_path(folder)
    check_formats(formats)
    with figures.drawn_as(formats):
        general = figures.pictures_of_all(comparison)
        sections = [_section(comparison, index) for index in range(len(comparison["codes"]))]
    pictures = [*general, *(picture for section in sections for picture in section.pictures)]
    pictures += [section.evidence for section in sections if section.evidence]
    texts = {
        "results.csv": csv_text(*flat_rows(comparison)),
        "timing.csv": csv_text(TIMES, [_times(line) for line in comparison["timing"]]),
        "report.md": _markdown(comparison, general, sections),
        "report.html": _page(comparison, general, sections),
    }
    contents = {folder / name: text.encode() for name, text in texts.items()}
    contents |= {folder / TABLES[name][0]: TABLES[name][1](comparison) for name in formats if name in TABLES}
    contents |= {
        folder / FIGURES / f"{picture.stem}.{kind}": drawn
        for picture in pictures
        for kind, drawn in picture.files.items()
    }
    write_json(folder / "results.json", plain(comparison))
    for path, content in contents.items():
        with written_whole(path) as temporary:
            temporary.write_bytes(content)
    return [folder / "results.json", *contents]


def _section(comparison: Mapping[str, Any], index: int) -> Section:
    code = comparison["codes"][index]
    size = f"k = {code['k']}, r = {code['r']}"
    pictures, evidence = figures.pictures_of_code(comparison, index), figures.picture_of_evidence(comparison, index)
    return Section(str(code["name"]), code["kind"], size, code["about"], pictures, evidence)


def _times(line: Mapping[str, Any]) -> list[str]:
    return [*(str(line[column]) for column in TIMES[:4]), *(form(line[column], ".6g", "") for column in TIMES[4:])]


def _without_images(code: Mapping[str, Any]) -> dict[str, Any]:
    def words(shown: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in of.items() if key not in _IMAGES} for of in shown]

    found = code.get("evidence")
    evidence = found and {**found, "examples": words(found["examples"])}
    return {**code, "panel": words(code.get("panel") or ()), "evidence": evidence}


def plain(comparison: Mapping[str, Any]) -> Any:
    """Return a comparison as JSON has it, without the images that its page shows."""
    return _plain({**comparison, "codes": list(map(_without_images, comparison["codes"]))})


def _plain(value: Any) -> Any:
    """Return plain values that JSON has: lists for arrays, None for what is not a finite number."""
    return walk(value, _plain_leaf)


def _plain_leaf(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _facts(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was compared on what, for the head of a report."""
    base = comparison["base"]
    groups: dict[int, str] = {}
    for code in comparison["codes"]:
        left = code["queries_left_over"]
        over = f" ({left} {'query' if left == 1 else 'queries'} left over)" if left else ""
        groups[code["k"]] = f"{code['groups']} at k = {code['k']}{over}"
    parameters, adds = (form(base[key], ",.0f") for key in ("parameters", "multiply_adds"))
    facts = [
        *((str(code["name"]), code_in_words(code, comparison["measure"])) for code in _trained(comparison)),
        ("data set", f"{comparison['dataset']}, {comparison['split']} split, {base['queries']} queries"),
        ("base model", f"{base['name']}, {parameters} parameters, {adds} multiply-adds for a query"),
        ("weights", str(base["weights"])),
        ("accuracy", str(base["in_words"])),
        ("groups", ", ".join(groups[k] for k in sorted(groups))),
    ]
    if comparison["paired"]:
        facts.append(
            ("failures", "come in pairs: in A_o(f), outputs 2i and 2i + 1 of a group are unavailable together")
        )
    return facts


def _trained(comparison: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the trained codes, with what each loses at the head of a report; all, where none is trained."""
    codes = [code for code in comparison["codes"] if code["loss"]]
    return [code for code in codes if code["kind"] == "trained"] or codes


def _reading(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how to read each letter, in a sentence."""
    measure = Measure(comparison["measure"])
    agreement = measure_name(comparison["measure"]).agreement
    return [
        (
            "A_a − A_d(e), paired",
            "what is lost when e outputs are unavailable, with a 95 % interval over the same coding groups.",
        ),
        ("A_a", f"{measure.name} of the base model itself, when every prediction is available."),
        (
            "A_d(e)",
            f"degraded-mode accuracy: {measure.name} of the predictions that the decoder has to rebuild when e outputs "
            "are unavailable, averaged over all patterns; beside it the worst position in a group, counted from 0.",
        ),
        (
            "reconstruction accuracy (e)",
            f"of the same rebuilt predictions, {agreement} what the base model would have predicted.",
        ),
        (
            "A_o(f)",
            f"overall accuracy: {measure.name} of what users get when each output is unavailable with probability f, "
            "with a default prediction where nothing can be rebuilt.",
        ),
    ]


def _page(comparison: Mapping[str, Any], general: Sequence[Picture], sections: Sequence[Section]) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = lambda png: "data:image/png;base64," + base64.b64encode(png).decode()
    template = resources.files("parity.evaluation.report").joinpath("report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=_title(comparison),
        facts=_facts(comparison),
        reading=_reading(comparison),
        accuracies=accuracy_table(comparison),
        overall=overall_table(comparison),
        stragglers=stragglers_table(comparison),
        costs=cost_table(comparison),
        against=against_table(comparison),
        timing=timing_table(comparison),
        evidence=evidence_table(comparison),
        general=general,
        sections=sections,
    )


def _title(comparison: Mapping[str, Any]) -> str:
    return f"Codes compared on {comparison['dataset']}"


def _markdown(comparison: Mapping[str, Any], general: Sequence[Picture], sections: Sequence[Section]) -> str:
    parts = [f"# {escaped(_title(comparison))}"]
    parts.append("\n".join(f"- **{escaped(name)}**: {escaped(text)}" for name, text in _facts(comparison)))
    parts.append("\n".join(f"- **{name}**: {escaped(text)}" for name, text in _reading(comparison)))
    parts += ["## Accuracies", *_markdown_table(accuracy_table(comparison))]
    if comparison["unavailable"]:
        parts += _markdown_table(overall_table(comparison))
        parts += _markdown_table(stragglers_table(comparison))
    parts += ["## Costs", *_markdown_table(cost_table(comparison))]
    parts += map(_markdown_picture, general)
    if (against := against_table(comparison)).rows:
        parts += ["## Paired differences", *_markdown_table(against)]
    if comparison["timing"]:
        parts += ["## Times", *_markdown_table(timing_table(comparison))]
    parts.append("## Code by code")
    for section in sections:
        parts += [f"### {escaped(section.name)} ({section.size})", f"{section.kind}: {escaped(section.about)}"]
        parts += map(_markdown_picture, section.pictures)
    if (evidence := evidence_table(comparison)).rows:
        parts += ["## What the codes looked at", *_markdown_table(evidence)]
        parts += [_markdown_picture(section.evidence) for section in sections if section.evidence]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> list[str]:
    lines = [table.head, ["---", *["---:"] * (len(table.head) - 1)]]
    lines = [" | ".join(map(escaped, table.head)), " | ".join(lines[1])]
    lines += [" | ".join(map(_markdown_cell, row)) for row in table.rows]
    return [escaped(table.caption), "\n".join(f"| {line} |" for line in lines)]


def _markdown_cell(cell: Cell) -> str:
    return escaped(f"{cell.text} ({cell.detail})" if cell.detail else cell.text)


def _markdown_picture(picture: Picture) -> str:
    return f"![{escaped(picture.caption)}]({FIGURES}/{picture.stem}.png)"
