"""Paired intervals: they cover what they should, and are narrower than unpaired ones."""

import numpy as np
import pytest
import torch

from parity.evaluation.intervals import mean_and_spread, mean_interval, paired_interval


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


@pytest.mark.parametrize(
    ("groups", "k", "loss", "gain"),
    [
        (50, 2, 0.02, 0.005),
        (50, 4, 0.05, 0.0),
        (90, 4, 0.0025, 0.0),
        (180, 2, 0.003, 0.0),
        (180, 2, 0.01, 0.0),
        (180, 4, 0.005, 0.002),
        (400, 4, 0.003, 0.0),
        (1000, 2, 0.001, 0.001),
        (1000, 2, 0.0025, 0.0),
        (5000, 2, 0.001, 0.0),
    ],
)
def test_intervals_of_few_losses_cover_95_percent_or_more(groups: int, k: int, loss: float, gain: float) -> None:
    """Queries that the code alone has right occur with probability ``gain``, others that it alone has wrong."""
    generator, trials, covered = np.random.default_rng(0), 600, 0
    for _ in range(trials):
        drawn = torch.tensor(generator.random((groups, k)))
        right, rebuilt = (drawn >= gain).double().mean(1), (drawn < 1 - loss - gain).double().mean(1)
        found = paired_interval(right, rebuilt)
        assert found.low < found.value < found.high
        covered += found.low <= loss <= found.high
    assert covered / trials >= 0.92  # of few losses an interval covers up to 100 %, for their number is whole


@pytest.mark.parametrize("drawn", ["normal", "chisquare"])
def test_intervals_of_real_measures_cover_95_percent(drawn: str) -> None:
    """As of squared errors or R², whose differences are continuous, without bounds and not about 0."""
    generator, trials, covered = np.random.default_rng(0), 600, 0
    for _ in range(trials):
        sample = generator.normal(0.3, 0.05, 180) if drawn == "normal" else 0.3 * generator.chisquare(1, 180)
        base = torch.tensor(generator.normal(size=180))
        found = paired_interval(base + torch.tensor(sample), base)
        covered += found.low <= 0.3 <= found.high
    assert 0.925 <= covered / trials <= 0.975


def test_what_makes_groups_hard_for_both_is_not_in_the_interval() -> None:
    base, rebuilt = simulated(500, 4, np.random.default_rng(1))
    paired = paired_interval(base, rebuilt)
    unpaired = paired_interval(base, rebuilt[torch.randperm(500)])
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


def test_equal_codes_may_differ_by_a_query_and_the_interval_is_the_same_again() -> None:
    base, rebuilt = simulated(50, 4, np.random.default_rng(2))
    alike = paired_interval(base, base)
    assert alike == (0, -alike.high, alike.high)
    assert alike.high == pytest.approx(1.96 * 0.25 * (2 / 51 / 52) ** 0.5)
    halves = torch.tensor([0.5, *[1.0] * 179])
    assert paired_interval(halves, halves).high == pytest.approx(0.0077, abs=1e-4)
    assert paired_interval(halves + 1e-16, halves).high == pytest.approx(0.0077, abs=1e-4)  # added in another order
    every = paired_interval(torch.ones(9), torch.full((9,), 0.5))
    assert every.low < every.value == 0.5 < every.high
    one = paired_interval(torch.ones(1), torch.ones(1))
    assert one.low < 0 < one.high
    assert paired_interval(base, rebuilt) == paired_interval(base, rebuilt)


def test_many_distinct_values_have_the_interval_of_their_mean() -> None:
    values = torch.rand(3000, dtype=torch.double)
    margin = 1.96 * float(values.std()) / 3000**0.5
    for found in (paired_interval(values, torch.zeros(3000)), mean_interval(values)):
        assert found.high - found.value == pytest.approx(margin, rel=0.001)
    assert mean_interval(torch.tensor([0.5])) == (0.5, 0.5, 0.5)


def test_spread_over_seeds_is_that_of_a_sample() -> None:
    assert mean_and_spread([1.0, 2.0, 4.0]) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert mean_and_spread([0.5]) == (0.5, 0)
