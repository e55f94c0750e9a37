"""Figures of studies, drawn with seaborn and without pyplot, so that a notebook stays as it is."""

from collections.abc import Callable

import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from parity.analyses.tables import best_state_lr, last_step, layer_energies, over_seeds

PALETTE = "viridis"
_STYLE = "seaborn-v0_8-whitegrid"

Draw = Callable[[Axes, pd.DataFrame], None]


def _panels(table: pd.DataFrame, row: str, column: str, draw: Draw, title: str, share: bool = True) -> Figure:
    """Draw a panel for each value of two columns."""
    rows, columns = sorted(table[row].unique()), sorted(table[column].unique())
    with matplotlib.style.context(_STYLE):
        size = max(5.0, 0.8 + 3.4 * len(columns)), 0.8 + 2.6 * len(rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex=share, sharey=share)
        figure.suptitle(title, fontsize=11)
        for i, row_value in enumerate(rows):
            for j, column_value in enumerate(columns):
                part = table[(table[row] == row_value) & (table[column] == column_value)]
                axes[i, j].set_title(f"{row_value} | {_named(column, column_value)}", fontsize=9)
                if len(part):
                    draw(axes[i, j], part)
                else:
                    axes[i, j].set_axis_off()
    return figure


def _named(column: str, value: object) -> str:
    return f"{column} {value:g}" if isinstance(value, float) else str(value)


def accuracy_against_state_lr(table: pd.DataFrame) -> Figure:
    """Draw accuracy against gamma for each width, mean and range over seeds, with the best gamma marked."""
    table = table[table["rule"] == "pc"].assign(model=lambda t: t["what"] + "\n" + t["by"])
    best = best_state_lr(table).assign(model=lambda t: t["what"] + "\n" + t["by"])
    widths = sorted(table["width"].unique())
    colours = dict(zip(widths, sns.color_palette(PALETTE, len(widths)), strict=True))

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        sns.lineplot(
            part, x="state_lr", y="accuracy", hue="width", palette=colours, errorbar=("pi", 100), marker=".", ax=axes
        )
        of_panel = best[(best["model"] == part["model"].iloc[0]) & (best["lr"] == part["lr"].iloc[0])]
        for mark in of_panel.itertuples():
            axes.plot(mark.best, mark.accuracy, "*", markersize=13, color=colours[mark.width], markeredgecolor="black")
        axes.set(xscale="log", xlabel="state learning rate γ", ylim=(-0.03, 1.03))

    return _panels(table, "model", "lr", draw, "accuracy against γ; a star marks the best of a width")


def width_by_lr(table: pd.DataFrame) -> Figure:
    """Draw the best accuracy over gamma, the mean over seeds, for each width and learning rate."""
    means = over_seeds(table.fillna({"state_lr": 0.0}), ["what", "by", "width", "lr", "state_lr"])
    best = means.groupby(["what", "by", "width", "lr"])["accuracy"].max().reset_index()
    return _heat_maps(best, "accuracy", "accuracy (with pc, at the best γ) by width and learning rate", "mako")


def divergence(table: pd.DataFrame) -> Figure:
    """Draw the share of trials that diverged, over gammas and seeds, for each width and learning rate."""
    shares = over_seeds(table, ["what", "by", "width", "lr"])
    return _heat_maps(shares, "diverged", "share of trials that diverged, by width and learning rate", "rocket_r")


def _heat_maps(values: pd.DataFrame, what: str, title: str, colours: str) -> Figure:
    def draw(axes: Axes, part: pd.DataFrame) -> None:
        grid = part.pivot(index="width", columns="lr", values=what)
        sns.heatmap(grid, vmin=0, vmax=1, annot=True, fmt=".2f", cmap=colours, cbar=False, ax=axes)
        axes.set_xticklabels([f"{lr:g}" for lr in grid.columns])

    return _panels(values, "what", "by", draw, title, share=False)


def optimizers(table: pd.DataFrame) -> Figure:
    """Draw accuracies over all other settings as boxes, SGD beside AdamW, for each width."""

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        sns.boxplot(part, x="width", y="accuracy", hue="optimizer", hue_order=["sgd", "adamw"], gap=0.1, ax=axes)
        axes.set_ylim(-0.03, 1.03)

    return _panels(table, "what", "rule", draw, "accuracy over all other settings")


def energy_over_steps(table: pd.DataFrame) -> Figure:
    """Draw each layer's energy over the steps of inference after training: the median, and the quartiles."""
    energies = layer_energies(table)
    energies = energies[energies["energy"] > 0].assign(states=lambda t: "states begin " + t["state_init"])

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        sns.lineplot(
            part, x="step", y="energy", hue="layer", palette=PALETTE, estimator="median", errorbar=("pi", 50),
            legend="full", ax=axes,
        )  # fmt: skip
        axes.set(yscale="log", xlabel="step of inference")

    return _panels(energies, "states", "state_lr", draw, "energy of each layer while hidden states settle")


def energy_ratios(table: pd.DataFrame) -> Figure:
    """Draw how many times a layer's energy is that of the layer before it, after inference, against gamma."""
    energies = last_step(layer_energies(table)).assign(states=lambda t: "states begin " + t["state_init"])
    before = energies.assign(layer=energies["layer"] + 1)
    keys = [column for column in energies.columns if column != "energy"]
    pairs = energies.merge(before, on=keys, suffixes=("", "_before"))
    pairs = pairs[(pairs["energy_before"] > 0) & (pairs["energy"] > 0)]
    pairs["ratio"] = pairs["energy"] / pairs["energy_before"]
    pairs["layers"] = [f"{layer} / {layer - 1}" for layer in pairs["layer"]]

    def draw(axes: Axes, part: pd.DataFrame) -> None:
        sns.lineplot(
            part, x="state_lr", y="ratio", hue="layers", palette=PALETTE, estimator="median", errorbar=("pi", 50),
            marker="o", ax=axes,
        )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="state learning rate γ", ylabel="ratio of energies")
        axes.axhline(1, color="black", linewidth=0.8)

    return _panels(pairs, "states", "by", draw, "a layer's energy over that of the layer before it")
