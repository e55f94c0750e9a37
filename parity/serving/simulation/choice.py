"""Which policy at which load: the table, and the rule by which to choose between hedging and coding."""

from collections.abc import Iterator

import pandas as pd

from parity.serving.simulation.sweep import CELL, over_seeds, ratios

_COMPARED = ("coded", "hedged")
_BUT_LOAD = [name for name in CELL if name != "load"]


def best(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return the policy with the lowest median of a measure, by cell; ``none`` has fewer workers and does not count."""
    medians = over_seeds(rows)
    medians = medians[medians["policy"] != "none"]
    lowest = medians.loc[medians.groupby(list(CELL), sort=False)[measure].idxmin()]
    return lowest[[*CELL, "policy", "p50", measure]].reset_index(drop=True)


def markdown(rows: pd.DataFrame, measures: tuple[str, ...] = ("p99", "p99.9")) -> str:
    """Return the table: a line for each service and fault, a column for each load, the best policies in it."""
    lines = []
    loads = sorted(rows["load"].unique())
    for measure in measures:
        lines += ["", f"| lowest {measure} | " + " | ".join(f"{load:.0%}" for load in loads) + " |"]
        lines += ["| --- " * (1 + len(loads)) + "|"]
        for names, part in best(rows, measure).groupby(_BUT_LOAD, sort=False):
            by_load = {line["load"]: f"{line['policy']} {line[measure]:.0f}" for line in part.to_dict("records")}
            cells = " | ".join(by_load.get(load, "") for load in loads)
            lines.append(f"| {_in_words(names)} | {cells} |")
    rules = [f"- {sentence}" for measure in measures for sentence in rule(rows, measure)]
    return "\n".join([*lines[1:], *([""] if rules else []), *rules])


def rule(rows: pd.DataFrame, measure: str) -> Iterator[str]:
    """Yield, for each service and fault, the loads at which coding has the lower measure, and those where hedging has.

    A difference that is not the same with every seed counts as none.
    """
    if not set(_COMPARED) <= set(rows["policy"]):
        return
    for names, part in ratios(rows, *_COMPARED, measure).groupby(_BUT_LOAD, sort=False):
        coded = [_percent(load) for load, highest in zip(part["load"], part["to"], strict=True) if highest < 1]
        hedged = [_percent(load) for load, lowest in zip(part["load"], part["from"], strict=True) if lowest > 1]
        open_ = [_percent(load) for load in part["load"] if _percent(load) not in (*coded, *hedged)]
        found = [
            f"{what} at {', '.join(loads)}"
            for what, loads in (("coded", coded), ("hedged", hedged), ("undecided", open_))
            if loads
        ]
        yield f"{_in_words(names)}: lower {measure} with every seed: {'; '.join(found)} load."


def _percent(load: float) -> str:
    return f"{load:.0%}"


def _in_words(names: tuple) -> str:
    workers, k, r, fault, faulty = names
    return f"m = {workers}, k = {k}, r = {r}, {fault}" + (f" ({faulty:g})" if fault != "none" else "")
