"""Which widths, learning rates and optimisers train: python -m parity.analyses.training_stability --jobs 2

Trains a network for each point of a grid, a few seconds each, and gives accuracy against the state learning rate for
each width, width against learning rate, SGD against AdamW, and what diverged, in artifacts/training_stability/<id>/.
The same command resumes where it was stopped. The paper's grid, and parity models beside their base models:

    python -m parity.analyses.training_stability --paper --task two_moons --jobs 16
    python -m parity.analyses.training_stability --rule bp --parity --lr 0.001 0.01 0.1 1

After Pinchetti et al., "Benchmarking Predictive Coding Networks -- Made Simple" (2024), section 5.1.
"""

import math
from typing import TYPE_CHECKING

from parity.analyses.grid import Axes
from parity.analyses.study import Kind

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

AXES: Axes = dict(lr=(0.003, 0.01, 0.03), state_lr=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3))


_APART = ("activation", "weight_init", "state_init")
"""Axes that no figure has: what differs in them is drawn side by side."""


def paper_axes(task: str) -> Axes:
    """Return the grid of the paper's own script for a task; its 8 epochs and batches are of all of the data."""
    toy = task.startswith("two_")
    return dict(
        task=(task,),
        rule=("bp", "pc"),
        widths=(32, 64, 128, 256, 512, 1024, 2048, 4096),
        momentum=(0.0, 0.9),
        lr=(0.03,) if toy else (0.01,),
        state_lr=tuple(float(f"{step}e{power}") for power in range(-5, 0) for step in (1, 3)),
        seeds=10 if toy else 3,
        epochs=8,
        steps_per_epoch=100_000,
    )


def figures(table: "pd.DataFrame") -> "dict[str, Figure]":
    """Return the figures by their files' stems."""
    from parity.analyses import figures as draw
    from parity.analyses.tables import with_labels

    table = with_labels(table, _APART)
    drawn = {"width_by_lr": draw.width_by_lr(table), "divergence": draw.divergence(table)}
    if (table["rule"] == "pc").any():
        drawn["accuracy_against_state_lr"] = draw.accuracy_against_state_lr(table)
    if table["optimizer"].nunique() > 1:
        drawn["optimizers"] = draw.optimizers(table)
    return drawn


def findings(table: "pd.DataFrame") -> str:
    """Return the best γ of each width, how far widths move it, and which learning rates train which models."""
    from parity.analyses.tables import with_labels

    table = with_labels(table, _APART)
    parts = [_state_lrs(table)] if (table["rule"] == "pc").any() else []
    return "\n".join([*parts, _learning_rates(table)])


def _state_lrs(table: "pd.DataFrame") -> str:
    from parity.analyses.tables import STABLE, as_markdown, best_state_lr

    best = best_state_lr(table)
    widths = sorted(best["width"].unique())
    of_widths = [f"best γ at {width}" for width in widths]
    head = ["model", "by", "lr", *of_widths, "best: decades apart", "highest good: decades apart"]
    rows = []
    for (what, by, lr), group in best.groupby(["what", "by", "lr"], sort=True):
        cells = [
            f"{row.best:g} ({row.lowest:g} – {row.highest:g}; {row.accuracy:.3f})"
            for row in group.sort_values("width").itertuples()
        ]
        rows.append([what, by, f"{lr:g}", *cells, _decades(group["best"]), _decades(group["highest"])])
    note = f"In brackets: the γ that are worse by at most {STABLE:g} and never diverged; the accuracy of the best.\n"
    return "\n".join([as_markdown(head, rows), note])


def _decades(rates: "pd.Series[float]") -> str:
    return f"{math.log10(rates.max() / rates.min()):.1f}"


def _learning_rates(table: "pd.DataFrame") -> str:
    from parity.analyses.tables import STABLE, as_markdown, over_seeds

    keys = ["what", "by", "width"]
    head = ["model", "by", "width", "best accuracy", "at lr", "lrs as good", "smallest lr that diverged", "diverged"]
    rows = []
    settings = table.fillna({"state_lr": 0.0})
    means = over_seeds(settings, [*keys, "lr", "state_lr"])
    for values, group in means.groupby(keys, sort=True):
        by_lr = group.groupby("lr").agg(accuracy=("accuracy", "max"), diverged=("diverged", "max"))
        best = by_lr["accuracy"].max()
        good = by_lr.index[by_lr["accuracy"] >= best - STABLE]
        broken = by_lr.index[by_lr["diverged"] > 0]
        rows.append(
            [
                *values,
                f"{best:.3f}",
                f"{by_lr['accuracy'].idxmax():g}",
                f"{good.min():g} – {good.max():g}",
                f"{broken.min():g}" if len(broken) else "none",
                f"{group['diverged'].mean():.0%}",
            ]
        )
    return as_markdown(head, rows)


STUDY = Kind("training_stability", AXES, paper_axes, figures, findings)

if __name__ == "__main__":
    from parity.analyses.command_line import command

    raise SystemExit(command(STUDY))
