"""Confidence intervals of means over coding groups, and of the difference of two codes on the same groups."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_RESAMPLES = 2000
_SEED = 0


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval over coding groups."""

    value: float
    low: float
    high: float


def paired_interval(first: Tensor, second: Tensor) -> Interval:
    """Return the mean of ``first - second`` with its 95 % interval, by a bootstrap over groups.

    Both are of the same groups: what makes a group hard for both is in neither end of the interval, so that it is
    narrower than those of the two means. The bootstrap is that of percentiles, widened by sqrt(G / (G - 1)); it draws
    how often each distinct difference occurs among G groups, which is the same as to draw the groups, and is seeded.

    Args:
        first, second: float64 (G,), of the same groups in the same order.
    """
    differences = first.double() - second.double()
    value, groups = float(differences.mean()), len(differences)
    if groups < 2:
        return Interval(value, value, value)
    distinct, counts = torch.unique(differences, return_counts=True)
    generator = np.random.default_rng(_SEED)
    means = np.concatenate([
        generator.multinomial(groups, counts.numpy() / groups, size=part) @ distinct.numpy() / groups
        for part in _parts(len(distinct))
    ])  # fmt: skip
    low, high = np.percentile(means, (2.5, 97.5))
    wider = (groups / (groups - 1)) ** 0.5
    return Interval(value, value + wider * (float(low) - value), value + wider * (float(high) - value))


def _parts(distinct: int) -> list[int]:
    """Return how many resamples are drawn at a time, so that few numbers are in memory."""
    most = max(1, min(_RESAMPLES, 10_000_000 // distinct))
    full, rest = divmod(_RESAMPLES, most)
    return [most] * full + [rest] * (rest > 0)


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Return the mean over seeds, and the standard deviation of a sample of them; 0 of a single one."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return float(numbers.mean()), float(numbers.std()) if len(values) > 1 else 0.0
