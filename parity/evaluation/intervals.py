"""Confidence intervals of means over coding groups, and of the difference of two codes on the same groups."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

WITHIN = 1.96
"""Of the normal distribution: what lies within so many standard errors is 95 %."""

_ROUNDED = 1e-9  # of the largest value: what differs by less is the same number, added in another order


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval over coding groups."""

    value: float
    low: float
    high: float


def paired_interval(first: Tensor, second: Tensor) -> Interval:
    """Return the mean of ``first - second`` with its 95 % interval over groups.

    Both are of the same groups: what makes a group hard for both is in neither end of the interval, so that it is
    narrower than those of the two means. It is the adjusted Wald interval of paired proportions (Bonett and Price,
    Journal of Educational and Behavioral Statistics 37, 2012; Agresti and Min, Statistics in Medicine 24, 2005), about
    the mean itself and for any measure: the variance is that of the G differences d and two more, u above and u below
    their mean m,

        m ± 1.96 sqrt((Σ (d - m)² + 2 u²) / (G + 1) / (G + 2)).

    With u, the root of Σ (d - m)² over the number of differences that are not 0, the two are groups as others that
    differ. u is at least the least step between values of ``first`` and ``second``, 1/k of shares of k; so codes that
    were alike in all groups may still differ, by a query or so in a group. Of a measure whose values never coincide the
    two add next to nothing.

    Args:
        first, second: float64 (G,), of the same groups in the same order.
    """
    first, second = first.double(), second.double()
    differences = first - second
    value, groups = float(differences.mean()), len(differences)
    deviations = float((differences - value).square().sum())
    values = torch.cat([first, second])
    differing = int((differences.abs() > _ROUNDED * values.abs().max()).sum())
    unit = max(deviations / max(differing, 1), _least_step(values) ** 2)
    margin = WITHIN * math.sqrt((deviations + 2 * unit) / (groups + 1) / (groups + 2))
    return Interval(value, value - margin, value + margin)


def _least_step(values: Tensor) -> float:
    """Return the least difference between values that are not the same; 1 where all are."""
    steps = values.sort().values.diff()
    steps = steps[steps > _ROUNDED * values.abs().max()]
    return float(steps.min()) if len(steps) else 1.0


def mean_interval(values: Tensor) -> Interval:
    """Return the mean of values (N,) with its 95 % interval, of the normal distribution; no width for a single one."""
    value = float(values.double().mean())
    margin = WITHIN * float(values.double().std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Interval(value, value - margin, value + margin)


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """Return the mean over seeds, and the standard deviation of a sample of them; 0 of a single one."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return float(numbers.mean()), float(numbers.std()) if len(values) > 1 else 0.0
