"""Runs that differ by their seed alone as one row of a comparison: means, and standard deviations over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from parity.evaluation.intervals import mean_and_spread

_OF_THE_FIRST = ("panel", "evidence", "against")


def over_seeds(comparison: Mapping[str, Any], of: Mapping[str, str]) -> dict[str, Any]:
    """Put codes together that are one code with several seeds.

    Args:
        comparison: what ``compare_on`` returned.
        of: the code's name by the runs' names; what is not in there, as a baseline, stays alone.

    Returns:
        The comparison, with in place of each interval the mean over seeds, 'sd', and mean - sd and mean + sd as its
        ends. The worst position is that of the means over seeds. Counts are sums; groups that are shown are the first
        seed's. Codes are not compared in pairs.
    """
    together: dict[tuple[str, int, int, str], list[Mapping[str, Any]]] = {}
    for code in comparison["codes"]:
        name = of.get(code["name"], code["name"])
        together.setdefault((name, code["k"], code["r"], code["about"]), []).append(code)
    codes = [
        {**_merged(codes), "name": name, "against": [], "seeds": len(codes)} if len(codes) > 1 else codes[0]
        for (name, *_), codes in together.items()
    ]
    kept = {code["name"] for code in codes}
    timing = [
        {**row, "name": of.get(row["name"], row["name"])}
        for row in comparison["timing"]
        if row["name"] in kept or row["name"] in {codes[0]["name"] for codes in together.values()}
    ]
    return {**comparison, "codes": codes, "timing": timing}


def _merged(values: Sequence[Any]) -> Any:
    """Merge what several seeds have in one place."""
    first = values[0]
    if isinstance(first, Mapping) and {"value", "low", "high"} <= first.keys():
        mean, spread = mean_and_spread([value["value"] for value in values])
        others = {key: _merged([value[key] for value in values]) for key in first.keys() - {"value", "low", "high"}}
        if others.get("by_position"):
            others["worst"] = min(others["by_position"])
            others["worst_position"] = others["by_position"].index(others["worst"])
        return {**others, "value": mean, "low": mean - spread, "high": mean + spread, "sd": spread}
    if isinstance(first, Mapping):
        if "count" in first:
            return _calibration(values)
        return {
            key: first[key] if key in _OF_THE_FIRST else _merged([value[key] for value in values])
            for key in first
            if all(key in value for value in values)
        }
    if isinstance(first, list) and first and isinstance(first[0], list):  # confusions
        return [[sum(column) for column in zip(*rows, strict=True)] for rows in zip(*values, strict=True)]
    if isinstance(first, list):
        return first if first and not isinstance(first[0], int | float) else _means(values)
    if isinstance(first, float) and not isinstance(first, bool):
        return mean_and_spread(list(values))[0]
    return first


def _means(lists: Sequence[Sequence[float]]) -> list[float]:
    return [mean_and_spread(list(numbers))[0] for numbers in zip(*lists, strict=True)]


def _calibration(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge bins: each seed's means count as often as it has predictions in a bin."""
    counts = [sum(column) for column in zip(*(value["count"] for value in values), strict=True)]
    merged: dict[str, Any] = {"count": counts}
    for name in ("confidence", "accuracy"):
        sums = [sum(value["count"][bin_] * value[name][bin_] for value in values) for bin_ in range(len(counts))]
        merged[name] = [total / max(count, 1) for total, count in zip(sums, counts, strict=True)]
    merged["error"] = mean_and_spread([value["error"] for value in values])[0]
    if "base" in values[0]:
        merged["base"] = _calibration([value["base"] for value in values])
    return merged
