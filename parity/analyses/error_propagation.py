"""How far errors reach back through a network: python -m parity.analyses.error_propagation --jobs 2

Trains networks by predictive coding, a few seconds each, and gives the energy of each layer over the steps of inference
and the ratios of neighbouring layers, in artifacts/error_propagation/<id>/. The same command resumes where it was
stopped. The paper's setting, with more widths and rates on images:

    python -m parity.analyses.error_propagation --paper --task FashionMNIST --jobs 16

After Pinchetti et al., "Benchmarking Predictive Coding Networks -- Made Simple" (2024), section 5.1.
"""

from typing import TYPE_CHECKING

from parity.analyses.grid import Axes
from parity.analyses.study import Kind

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

AXES: Axes = dict(
    widths=(128,),
    hidden_layers=3,
    activation=("leaky_relu", "hard_tanh"),
    state_init=("forward", "normal"),
    lr=(0.003,),
    state_lr=(0.001, 0.01, 0.1, 0.3),
)


def paper_axes(task: str) -> Axes:
    """Return a grid of the paper's size for a task."""
    return dict(
        task=(task,),
        widths=(128, 512, 1024, 2048),
        momentum=(0.0, 0.9),
        lr=(0.001, 0.01, 0.03),
        state_lr=tuple(float(f"{step}e{power}") for power in range(-5, 0) for step in (1, 3)),
        seeds=3,
        epochs=8,
        steps_per_epoch=100_000,
    )


def figures(table: "pd.DataFrame") -> "dict[str, Figure]":
    """Return the figures by their files' stems."""
    from parity.analyses import figures as draw
    from parity.analyses.tables import with_labels

    table = with_labels(table)
    return {"energy_over_steps": draw.energy_over_steps(table), "energy_ratios": draw.energy_ratios(table)}


def findings(table: "pd.DataFrame") -> str:
    """Return how many times the last hidden layer's and the last layer's energy are the first's, after inference."""
    from parity.analyses.tables import as_markdown, last_step, layer_energies, with_labels

    head = ["states begin", "γ", "training", "E of the last hidden layer / E_1", "E_L / E_1", "accuracy"]
    table = with_labels(table)
    rows = []
    for (state_init, state_lr), group in table.groupby(["state_init", "state_lr"], sort=True):
        for when in ("start", "end"):
            medians = last_step(layer_energies(group, when)).groupby("layer")["energy"].median()
            first, hidden, last = medians.iloc[0], medians.iloc[-2], medians.iloc[-1]
            accuracy = f"{group['accuracy'].median():.3f}" if when == "end" else ""
            ratios = [f"{value / first:.3g}" if first > 0 else "E_1 is 0" for value in (hidden, last)]
            rows.append([state_init, f"{state_lr:g}", when, *ratios, accuracy])
    return as_markdown(head, rows) + "\nRatios of medians over all other settings, on one batch of validation data.\n"


STUDY = Kind("error_propagation", AXES, paper_axes, figures, findings, rule="pc")

if __name__ == "__main__":
    from parity.analyses.command_line import command

    raise SystemExit(command(STUDY))
