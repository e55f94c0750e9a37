"""A localisation analysis of one run: it is resumed grid by grid, and its results are files in the run's folder."""

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from parity.analyses.localisation_grids import AnalysisConfig, Chosen, choose, shares_of_code, shares_of_grids
from parity.coded_model import CodedModel
from parity.errors import ParityError, cause
from parity.evaluation.intervals import mean_interval
from parity.experiments import Experiment
from parity.models.weights import fingerprint
from parity.schema import Field
from parity.storage.files import read_json, write_json, written_whole

log = logging.getLogger(__name__)

_LEAST = 1e-6
"""Below this a number is rounding."""

_SPLIT = "test"
_STYLE = "seaborn-v0_8-whitegrid"
_RESULT = {
    "identity": Field((dict,)),
    "shares": Field((list,)),
}
"""What the file of an explainer holds, from the first grids on."""


class Analysis:
    """What the localisation analysis of a run is made of.

    Args:
        experiment: trained.
        config: how many grids, and of which kind.
        reload: name of the checkpoint.
        smooth: as of ``parity.explanations.explain``.
        batch_size: explanations that are made at a time.
        through_base_model: as of ``parity.explanations.explain_reconstruction``.

    Raises:
        ParityError: nothing is trained.
    """

    def __init__(
        self,
        experiment: Experiment,
        config: AnalysisConfig,
        reload: str,
        smooth: int,
        batch_size: int,
        through_base_model: bool,
    ) -> None:
        self.experiment, self.config, self.reload, self.smooth = experiment, config, reload, smooth
        self.batch_size, self.through_base_model = batch_size, through_base_model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = experiment.load_trained_model(reload).to(self.device)
        self.data = experiment.get_datamodule()
        self.data.device = self.device
        self.cells = self.data.k if config.side is None else config.side**2
        if len(self.data.query_shape) != 3:
            raise ParityError(
                f"the localisation analysis is of images (C, H, W), and queries of {self.data.dataset} have shape "
                f"{self.data.query_shape}."
            )

    def check(self, explainer: str) -> None:
        """Make sure that an explainer can explain this model, on a grid of zeros and one image's classes.

        Raises:
            ParityError: it cannot, or the network does not take images as large as a grid.
        """
        if explainer == "GradCAM" and isinstance(self.model, CodedModel) and not self._is_positional():
            name = self.experiment.experiment_name
            raise ParityError(
                f"GradCAM has one map of a parity query, and in those of {name} queries have "
                "no places of their own: its shares would be those of the encoder's weights. Choose another explainer."
            )
        shape = (1, self.cells, *self.data.query_shape)
        nothing = Chosen(
            torch.full(shape, 0.5, device=self.device),
            torch.zeros(shape[:2], dtype=torch.int64),
            torch.zeros(shape[:2], dtype=torch.int64),
        )
        try:
            self.shares(nothing, explainer)
        except (RuntimeError, ValueError) as error:
            side = self.config.side
            raise ParityError(
                f"the network of {self.experiment.experiment_name} does not take a grid of {side} x {side} images: the "
                f"analysis is for networks that take images of any size, as ResNet and BcosResNet ({cause(error)})."
            ) from error

    def _is_positional(self) -> bool:
        """Whether a number of the code's parity queries never depends on two queries of a group."""
        assert isinstance(self.model, CodedModel)
        ones = torch.eye(self.cells, device=self.device).view(self.cells, self.cells, 1, 1, 1)
        groups = (ones * torch.ones(self.data.query_shape, device=self.device)).contiguous()
        with torch.no_grad():
            coded = self.model.encoder.eval()(groups)
        return bool((coded.abs() > _LEAST).sum(0).le(1).all())

    @cached_property
    def weights(self) -> str:
        """A hash of the weights that are analysed."""
        return fingerprint(self.model)

    @cached_property
    def chosen(self) -> Chosen:
        """The images of all grids."""
        base = self.model.base_model if isinstance(self.model, CodedModel) else self.model
        chosen = choose(base, self.data, _SPLIT, self.config.grids, self.cells)
        return chosen._replace(queries=chosen.queries.to(self.device))

    def shares(self, chosen: Chosen, explainer: str) -> Tensor:
        """Return the shares in the right cells: (N, cells)."""
        if isinstance(self.model, CodedModel):
            return shares_of_code(
                self.model, chosen, explainer, self.smooth, self.batch_size, self.through_base_model
            )  # fmt: skip
        assert self.config.side is not None, "config_named gives base models one"
        return shares_of_grids(self.model, chosen, self.config.side, explainer, self.smooth, self.batch_size)

    def identity(self, explainer: str) -> dict[str, Any]:
        """Return what shares depend on, as plain values."""
        return {
            "dataset": self.experiment.dataset,
            "experiment_name": self.experiment.experiment_name,
            "seed": self.experiment.seed,
            "reload": self.reload,
            "weights_sha256": self.weights,
            "split": _SPLIT,
            "grids": self.config.grids,
            "cells": self.cells,
            "explainer": explainer,
            "smooth": self.smooth,
            "through_base_model": self.through_base_model,
        }

    def run(self, explainer: str, path: Path, advance: Callable[..., None]) -> dict[str, Any]:
        """Compute what is not there yet, write it as it comes, and return the result.

        Args:
            explainer: its name.
            path: of the result, a JSON file; a table is written beside it.
            advance: is called with the number of grids that are done.
        """
        identity = self.identity(explainer)
        shares = self._there(path, identity)
        advance(len(shares))
        at_a_time = max(1, self.batch_size // self.cells)
        while len(shares) < self.config.grids:
            part = slice(len(shares), len(shares) + at_a_time)
            chosen = Chosen(*(values[part] for values in self.chosen))
            shares += self.shares(chosen, explainer).cpu().tolist()
            advance(len(chosen.classes))
            write_json(path, {"identity": identity, "shares": shares})
        result = {"explainer": explainer, **_summary(shares), "identity": identity, "shares": shares}
        write_json(path, result)
        with written_whole(path.with_suffix(".parquet")) as temporary:
            self._table(shares).to_parquet(temporary, index=False)
        return {name: value for name, value in result.items() if name != "shares"}

    @staticmethod
    def _there(path: Path, identity: dict[str, Any]) -> list[list[float]]:
        if not path.exists():
            return []
        try:
            kept = read_json(path, "a localisation analysis", _RESULT)
        except ParityError as error:
            raise ParityError(f"{error} Remove it, and the same command starts over.") from error
        if kept["identity"] != identity:
            return []  # of other weights, as of a run that was trained on since, nothing can be used
        if not _are_shares(kept["shares"], identity["grids"], identity["cells"]):
            raise ParityError(
                f"{path} is damaged: its shares are not those of {identity['grids']} grids of {identity['cells']} "
                "cells. Remove it, and the same command starts over."
            )
        return list(kept["shares"])

    def _table(self, shares: list[list[float]]) -> pd.DataFrame:
        chosen = self.chosen
        return pd.DataFrame(
            {
                "grid": [grid for grid in range(len(shares)) for _ in range(self.cells)],
                "cell": list(range(self.cells)) * len(shares),
                "class": chosen.classes.flatten().tolist(),
                "row": chosen.rows.flatten().tolist(),
                "share": [share for grid in shares for share in grid],
            }
        )

    def draw(self, folder: Path, path: Path) -> None:
        """Draw all finished explainers of a folder side by side, a box for each."""
        drawn = {}
        for file in sorted(folder.glob("*_smooth*.json")):
            try:
                kept = read_json(file, "a localisation analysis", _RESULT)
            except ParityError as error:
                log.warning("%s It is left out of the figure.", error)
                continue
            smooth, explainer = kept["identity"].get("smooth"), str(kept.get("explainer"))
            same = kept["identity"] == {**self.identity(explainer), "smooth": smooth} and type(smooth) is int
            if same and len(kept["shares"]) and _are_shares(kept["shares"], self.config.grids, self.cells):
                label = kept["explainer"] + (f"\nsmooth {smooth}" if smooth > 1 else "")
                drawn[label] = [share for grid in kept["shares"] for share in grid]
        with matplotlib.style.context(_STYLE):
            figure = Figure(figsize=(max(3.0, 1.0 + 1.2 * len(drawn)), 3.4), layout="constrained", dpi=110)
            axes = figure.subplots()
            axes.boxplot(list(drawn.values()), tick_labels=list(drawn), showmeans=True, showfliers=False)
            axes.axhline(1 / self.cells, color="grey", linestyle="--", linewidth=1, label=f"chance, 1/{self.cells}")
            axes.set(ylim=(0, 1), ylabel="positive attribution in the right cell")
            axes.legend(frameon=False)
            with written_whole(path) as temporary:
                figure.savefig(temporary, format="png")


def _are_shares(shares: list[Any], grids: int, cells: int) -> bool:
    """Whether these are at most so many grids of shares, each from 0 to 1."""
    return len(shares) <= grids and all(
        isinstance(grid, list)
        and len(grid) == cells
        and all(type(share) in (int, float) and -_LEAST <= share <= 1 + _LEAST for share in grid)
        for grid in shares
    )


def _summary(shares: list[list[float]]) -> dict[str, Any]:
    values = torch.tensor(shares, dtype=torch.float64)
    score = mean_interval(values.mean(1))
    return {"score": score._asdict(), "cells": values.mean(0).tolist(), "chance": 1 / values.shape[1]}
