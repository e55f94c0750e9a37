"""A study's table in other shapes, and as text."""

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

STABLE = 0.02
"""A setting is as good as the best where its accuracy is lower by no more than this."""


def with_labels(table: pd.DataFrame, apart: Iterable[str] = ()) -> pd.DataFrame:
    """Add ``what``, which kind of model of which task is trained, and ``by``, by which rule and optimiser.

    Args:
        table: a study's.
        apart: further columns that ``by`` names where they vary, so that nothing is averaged over them.
    """
    table = table.copy()
    table["what"] = [f"{row.task}, {'parity' if row.parity else 'base'} model" for row in table.itertuples()]
    several = table.loc[table["optimizer"] == "sgd", "momentum"].nunique() > 1
    varied = [column for column in apart if table[column].nunique() > 1]

    def by(row: dict[Hashable, Any]) -> str:
        momentum = f" {row['momentum']:g}" if several and row["optimizer"] == "sgd" else ""
        further = [row[column] for column in varied if isinstance(row[column], str)]  # bp has no hidden states
        return ", ".join([row["rule"], row["optimizer"] + momentum, *further])

    table["by"] = [by(row) for row in table.to_dict("records")]
    return table


def over_seeds(table: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """Return the mean accuracy over seeds, and the share that diverged, for each value of ``keys``."""
    return (
        table.groupby(list(keys), sort=True)
        .agg(accuracy=("accuracy", "mean"), diverged=("diverged", "mean"))
        .reset_index()
    )


def best_state_lr(table: pd.DataFrame) -> pd.DataFrame:
    """Return, of predictive coding, the best gamma for each model, optimiser, learning rate and width.

    Returns:
        Columns ``what``, ``by``, ``lr``, ``width``; ``best``, a gamma (of equal ones the smallest), and ``accuracy``,
        its mean over seeds; ``lowest`` and ``highest``, the range of gammas as good: none diverged, and none is worse
        by more than ``STABLE``.
    """
    keys = ["what", "by", "lr", "width"]
    means = over_seeds(table[table["rule"] == "pc"], [*keys, "state_lr"])
    rows = []
    for values, group in means.groupby(keys, sort=True):
        best = group.loc[group["accuracy"].idxmax()]
        good = group[(group["accuracy"] >= best["accuracy"] - STABLE) & (group["diverged"] == 0)]
        good = good if len(good) else group.loc[[group["accuracy"].idxmax()]]
        rows.append(
            dict(zip(keys, values, strict=True))
            | {
                "best": best["state_lr"],
                "accuracy": best["accuracy"],
                "lowest": good["state_lr"].min(),
                "highest": good["state_lr"].max(),
            }
        )
    return pd.DataFrame(rows)


def layer_energies(table: pd.DataFrame, when: str = "end") -> pd.DataFrame:
    """Return a row per trial of predictive coding, inference step and layer, with its ``energy``.

    Args:
        table: a study's.
        when: 'start' or 'end' of training.
    """
    rows = [
        {**trial, "step": step, "layer": layer, "energy": energy}
        for trial in table[table["rule"] == "pc"].to_dict("records")
        for step, energies in enumerate(trial[f"{when}_energy"])
        for layer, energy in enumerate(energies, 1)
    ]
    kept = ["what", "by", "state_lr", "state_init", "activation", "width", "lr", "seed", "step", "layer", "energy"]
    return pd.DataFrame(rows)[kept]


def last_step(energies: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``layer_energies`` after the last step of inference."""
    return energies[energies["step"] == energies["step"].max()]


def as_markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
