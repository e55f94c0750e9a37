"""Paired intervals: they cover what they should, and are narrower than unpaired ones."""

import numpy as np
import pytest
import torch

from parity.evaluation.intervals import mean_and_spread, paired_interval


def simulated(groups: int, k: int, generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of k predictions that are right, of a base model (0.9) and of a code that loses 0.05, by groups."""
    hard = generator.random((groups, k))
    right, rebuilt = hard < 0.9, (hard < 0.87) & (generator.random((groups, k)) < 0.85 / 0.87)
    return torch.tensor(right.mean(1)), torch.tensor(rebuilt.mean(1))


@pytest.mark.parametrize(("groups", "k"), [(60, 4), (400, 2)])
def test_paired_intervals_cover_95_percent(groups: int, k: int) -> None:
    generator = np.random.default_rng(0)
    trials = 600
    covered = 0
    for _ in range(trials):
        found = paired_interval(*simulated(groups, k, generator))
        covered += found.low <= 0.05 <= found.high
    assert 0.93 <= covered / trials <= 0.975  # 95 %, give or take two standard errors of 600 trials


def test_what_makes_groups_hard_for_both_is_not_in_the_interval() -> None:
    base, rebuilt = simulated(500, 4, np.random.default_rng(1))
    paired = paired_interval(base, rebuilt)
    unpaired = paired_interval(base, rebuilt[torch.randperm(500)])
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_equal_codes_differ_by_nothing_and_the_interval_is_the_same_again() -> None:
    base, rebuilt = simulated(50, 4, np.random.default_rng(2))
    assert paired_interval(base, base) == (0, 0, 0)
    assert paired_interval(base, rebuilt) == paired_interval(base, rebuilt)


def test_many_distinct_values_are_resampled_alike() -> None:
    values = torch.rand(3000, dtype=torch.double)
    found = paired_interval(values, torch.zeros(3000))
    margin = 1.96 * float(values.std()) / 3000**0.5
    assert found.high - found.value == pytest.approx(margin, rel=0.1)


def test_spread_over_seeds_is_that_of_a_sample() -> None:
    assert mean_and_spread([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert mean_and_spread([0.5]) == (0.5, 0)
