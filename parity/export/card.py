"""The model card: what a person has to know of an artefact before using it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parity.markdown import escaped

LIMITS = (
    "A rebuilt prediction approximates the base model's. Its accuracy is the one measured above, on data like the data "
    "named there, and unknown on other data; its confidence is not the base model's."
)


@dataclass(frozen=True)
class CardFacts:
    """What only whoever trained a code knows of it.

    Args:
        name: of the artefact.
        what: what the base model does, in a sentence.
        data: what the accuracies were measured on: data set and split.
        accuracies: the measured numbers, plain values by name, as ``CodeEvaluation.summary`` returns them.
        class_names: in the order of the predictions' entries; empty where predictions are not classes.
        input_range: least and greatest number of queries as networks see them.
        limits: what it should not be used for.
        provenance: where the base model's weights come from.
        licences: by what they are of, e.g. {'base weights': 'Apache-2.0', 'data': 'CC BY-SA 3.0'}.
        command: that trained it.
    """

    name: str
    what: str
    data: str
    accuracies: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    input_range: tuple[float, float] | None = None
    limits: str = LIMITS
    provenance: str = "not stated"
    licences: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


def model_card(facts: CardFacts, manifest: Mapping[str, Any]) -> str:
    """Return the text of ``model_card.md``.

    Args:
        facts: what was stated.
        manifest: as in ``manifest.json``.
    """
    code, preprocessing = manifest["code"], manifest["preprocessing"]
    size = manifest["weights"]
    low_high = manifest["input_range"]
    lines = [
        f"# {escaped(facts.name)}",
        "",
        escaped(facts.what),
        "",
        f"An erasure code for its predictions: {code['encoder']} and {code['decoder']}, k = {code['k']} queries, "
        f"r = {code['r']} parity queries, n = {code['n']} outputs. Every pattern of at most {code['tolerance']} "
        "unavailable outputs can be rebuilt.",
        "",
        "## Measured",
        "",
        f"On {escaped(facts.data)}:",
        "",
        *_table(facts.accuracies),
        "",
        "A_a: the base model's accuracy; A_d(e): of what is rebuilt where e outputs are unavailable; A_o(f): of what "
        "users get where each output is unavailable with probability f. In brackets, 95 % intervals.",
        "",
        "## Use",
        "",
        f"Queries: {escaped(preprocessing['in_words'])}; channels: {preprocessing['channels']}.",
        *([f"Stored queries: {escaped(preprocessing['source'])}"] if preprocessing["source"] else []),
        *([f"Networks see numbers from {low_high[0]:g} to {low_high[1]:g}."] if low_high else []),
        f"Predictions have shape {tuple(manifest['prediction_shape'])}"
        + (f": {escaped(', '.join(facts.class_names))}." if facts.class_names else "."),
        f"The networks have {size['base']:,} (base model) and "
        f"{', '.join(f'{count:,}' for count in size['parity']) or 'no'} (parity models) parameters.",
        *(["", f"    {' '.join(facts.command.split())}"] if facts.command else []),
        "",
        "## Limits",
        "",
        escaped(facts.limits),
        "",
        "## Licences and provenance",
        "",
        f"- base weights: from {escaped(facts.provenance)}",
        *(f"- {escaped(of)}: {escaped(licence)}" for of, licence in facts.licences.items()),
        *([] if facts.licences else ["- licences: not stated"]),
        "",
    ]
    return "\n".join(lines)


def _table(accuracies: Mapping[str, Any]) -> list[str]:
    rows = list(_rows(accuracies))
    return ["| | |", "| --- | --- |", *rows] if rows else ["not measured"]


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    rows = []
    for name, value in values.items():
        shown = escaped(prefix + name.removesuffix("_interval"))
        if isinstance(value, Mapping) and value.keys() >= {"value", "low", "high"}:
            low, high = (f"{round(value[end], 4) + 0.0:.4f}" for end in ("low", "high"))
            rows.append(f"| {shown} | {value['value']:.4f} ({low} to {high}) |")
        elif isinstance(value, Mapping):
            rows += _rows(value, f"{prefix}{name} ")
        elif isinstance(value, float):
            rows.append(f"| {shown} | {value:.4f} |")
        elif isinstance(value, int | str):
            rows.append(f"| {shown} | {escaped(str(value))} |")
    return rows
