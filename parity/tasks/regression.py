"""Regression: one number, or several, for each query."""

import copy
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import check_floats


class Regression(Task):
    """Numbers; predictions and targets are floats (*P). Measured by R² and the root of the mean squared error.

    R² is 1 - mean (t - p)² / mean (t - m)², the second mean over the training data's targets t, and m their mean; over
    those of the data that is measured, where no training data is at hand, as ``parity.evaluate`` has none. So the
    default prediction, which is m, has an R² of about 0, and a part of the data has the same scale as the whole.
    Several outputs are weighted by their variances, as torchmetrics' ``R2Score(multioutput="variance_weighted")`` does.

    Args:
        shape: P, (1,) for one number.
        variance: of targets, summed over P; ``fitted`` finds it, which is done wherever there are training data.
    """

    measures = ("r2", "rmse")
    symbols = ("R²", "R²")
    likelihood = "gaussian"
    lowest = -torch.inf

    def __init__(self, shape: Sequence[int] = (1,), variance: float | None = None) -> None:
        self.prediction_shape = tuple(shape)
        self.variance = variance

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        if self.variance is None:
            raise ParityError(
                "a Regression measures against the variance of targets: hand over Regression(shape).fitted(targets)."
            )
        squares = (predictions.double() - targets.double()).square().flatten(-len(self.prediction_shape)).sum(-1)
        return torch.stack([1 - squares / self.variance, squares / torch.Size(self.prediction_shape).numel()], dim=-1)

    def summarise(self, means: Tensor) -> Tensor:
        return torch.stack([means[..., 0], means[..., 1].sqrt()], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the mean target."""
        return targets.float().mean(0)

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"R² {means['r2']:.4f}, RMSE {means['rmse']:.4g} over {queries}"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return numbers as float32 (N, *P); (N,) is taken for (N, 1)."""
        return check_floats(targets, self.prediction_shape, "numbers", where)

    def fitted(self, targets: Tensor) -> Self:
        """Return the task with the variance of these targets, unless it has one.

        Raises:
            ParityError: they are all the same.
        """
        if self.variance is not None:
            return self
        variance = float(targets.double().flatten(1).var(0, correction=0).sum())
        if not variance:
            raise ParityError("all targets are the same number, which needs no network: hand over others.")
        made = copy.copy(self)
        made.variance = variance
        return made
