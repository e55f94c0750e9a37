import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import erasures
from parity.errors import ParityError


@pytest.mark.parametrize("n", range(1, 8))
def test_patterns_are_all_choices_of_the_erased_outputs_in_lexicographic_order(n: int) -> None:
    for erased in range(n + 1):
        rows = erasures.patterns(n, erased)
        assert rows.dtype == torch.bool
        found = [tuple((~row).nonzero().flatten().tolist()) for row in rows]
        assert found == list(itertools.combinations(range(n), erased))


@pytest.mark.parametrize("n", range(1, 8))
def test_strata_are_the_2_to_the_n_rows_with_the_fewest_erasures_first(n: int) -> None:
    rows = erasures.Strata(n).patterns
    assert rows.shape == (2**n, n)
    assert {tuple(row) for row in rows.tolist()} == set(itertools.product([False, True], repeat=n))
    erased = (~rows).sum(1).tolist()
    assert erased == sorted(erased)


def test_missing_predictions_by_hand() -> None:
    rows = erasures.missing_predictions(3, 5, 2)
    assert rows.dtype == torch.bool
    assert rows.tolist() == [
        [False, False, True, True, True],
        [False, True, False, True, True],
        [True, False, False, True, True],
    ]


@pytest.mark.parametrize(("k", "r"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 0)])
def test_missing_predictions_are_the_patterns_that_leave_every_parity_output_alone(k: int, r: int) -> None:
    for erased in range(k + 1):
        everything = erasures.patterns(k + r, erased)
        expected = everything[everything[:, k:].all(1)]
        assert len(expected) == math.comb(k, erased)
        assert torch.equal(erasures.missing_predictions(k, k + r, erased), expected)


def test_more_predictions_than_there_are_cannot_be_missing() -> None:
    assert erasures.missing_predictions(2, 5, 3).shape == (0, 5)


def test_single_erasures_miss_one_prediction_each_and_no_parity_output() -> None:
    rows = erasures.single_erasures(3, 5)
    assert rows.tolist() == [
        [False, True, True, True, True],
        [True, False, True, True, True],
        [True, True, False, True, True],
    ]


@settings(max_examples=30)
@given(n=st.integers(1, 10), f=st.floats(0, 1))
def test_strata_hold_every_pattern_once_and_their_mean_is_binomial(n: int, f: float) -> None:
    strata = erasures.Strata(n)
    assert len(strata.patterns.unique(dim=0)) == len(strata.patterns) == 2**n
    assert strata.mean(torch.ones(2**n), strata.weights(f)) == (pytest.approx(1), 0)
    assert strata.mean((~strata.patterns).sum(1), strata.weights(f)) == (pytest.approx(n * f), 0)
    first = torch.eye(2**n)[0]  # of the pattern without erasures, the first
    assert strata.patterns[0].all()
    assert strata.mean(first, strata.weights(f))[0] == pytest.approx((1 - f) ** n)


@pytest.mark.parametrize("n", [4, 5])
def test_workers_that_fail_in_pairs(n: int) -> None:
    strata = erasures.Strata(n, paired=True)
    assert len(strata.patterns) == 2 ** -(-n // 2)
    assert torch.equal(strata.patterns[:, 0], strata.patterns[:, 1])
    assert torch.equal(strata.patterns[:, 2], strata.patterns[:, 3])
    assert strata.mean((~strata.patterns).sum(1), strata.weights(0.3))[0] == pytest.approx(0.3 * n)
    together = (~strata.patterns[:, 0] & ~strata.patterns[:, 1]).double()
    assert strata.mean(together, strata.weights(0.3))[0] == pytest.approx(0.3)


def test_large_strata_are_sampled_the_same_every_time() -> None:
    strata, again = erasures.Strata(16, always=4, most=50), erasures.Strata(16, always=4, most=50)
    assert torch.equal(strata.patterns, again.patterns)
    assert strata.complete == [True] * 5 + [False] * 10 + [True, True]
    missing = (~strata.patterns).sum(1)
    assert missing.tolist() == [failed for failed, size in enumerate(strata.sizes) for _ in range(size)]
    values = (~strata.patterns[:, 3]).double()  # worker 3 fails: f on average
    mean, error = strata.mean(values, strata.weights(0.4))
    assert 0 < error < 0.05
    assert abs(mean - 0.4) < 4 * error


def test_strata_that_a_code_tolerates_are_all_there_only_as_long_as_they_are_few() -> None:
    strata = erasures.Strata(20, always=9)
    assert strata.sizes[:5] == [1, 20, 190, 1140, 1000]  # the next has 4845 patterns: 6196 in all
    assert strata.complete[:5] == [True, True, True, True, False]
    assert len(strata.patterns) < 20_000
    assert erasures.Strata(erasures.MOST * 2, always=100, most=50).complete[:3] == [True, True, False]
    assert erasures.Strata(200, most=50).complete[:2] == [True, False]
    for n, always in ((12, 6), (16, 4), (13, 5)):
        assert all(erasures.Strata(n, always=always, most=1).complete[: always + 1])


@settings(max_examples=20)
@given(n=st.integers(1, 8), f=st.floats(0, 1), paired=st.booleans())
def test_workers_with_one_probability_are_those_of_f_and_uncorrelated_ones_are_independent(
    n: int, f: float, paired: bool
) -> None:
    strata = erasures.Strata(n, paired=paired)
    failed = (~strata.patterns)[:, :: 2 if paired else 1].sum(1).double()
    independent = f**failed * (1 - f) ** (strata.workers - failed)
    torch.testing.assert_close(strata.weights(f), independent)
    torch.testing.assert_close(strata.weights_of([f] * strata.workers), independent)


def test_one_probability_weighs_sampled_patterns_as_f_does() -> None:
    strata = erasures.Strata(16, most=50)
    torch.testing.assert_close(strata.weights_of([0.3] * 16), strata.weights(0.3))
    values = (~strata.patterns[:, 3]).double()
    mean, error = strata.mean(values, strata.weights_of([0.2] * 3 + [0.7] + [0.2] * 12))
    assert 0 < error < 0.1
    assert abs(mean - 0.7) < 4 * error


@settings(max_examples=20)
@given(each=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_each_worker_is_unavailable_as_often_as_asked_for(each: list[float]) -> None:
    strata = erasures.Strata(len(each))
    weights = strata.weights_of(each)
    missing = (~strata.patterns).double()
    torch.testing.assert_close(weights @ missing, torch.tensor(each, dtype=torch.double))
    torch.testing.assert_close(
        (missing.mT * weights) @ missing,
        torch.tensor([[p if i == j else p * q for j, q in enumerate(each)] for i, p in enumerate(each)]).double(),
    )


@settings(max_examples=20)
@given(n=st.integers(2, 8), f=st.floats(0.01, 0.99), correlation=st.floats(0, 1))
def test_any_two_workers_are_correlated_as_asked_for(n: int, f: float, correlation: float) -> None:
    strata = erasures.Strata(n)
    weights, missing = strata.weights(f, correlation), (~strata.patterns).double()
    both = f**2 + correlation * f * (1 - f)
    expected = torch.full((n, n), both, dtype=torch.double).fill_diagonal_(f)
    torch.testing.assert_close((missing.mT * weights) @ missing, expected)


def test_probabilities_are_one_for_each_worker_and_from_0_to_1() -> None:
    strata = erasures.Strata(3)
    with pytest.raises(ParityError, match="give 3 probabilities"):
        strata.weights_of([0.1, 0.1])
    with pytest.raises(ParityError, match="each worker's probability is from 0 to 1"):
        strata.weights_of([0.1, 0.1, 1.5])
    with pytest.raises(ParityError, match="the correlation is from 0 to 1"):
        strata.weights(0.1, -0.1)


@pytest.mark.parametrize(
    ("available", "name"),
    [
        ([True, True, True], "all 3 outputs available"),
        ([True, False, True], "output 1 of 3 unavailable"),
        ([False, True, False], "outputs 0 and 2 of 3 unavailable"),
        ([False, False, True, False, True], "outputs 0, 1 and 3 of 5 unavailable"),
    ],
)
def test_describe_names_the_unavailable_outputs(available: list[bool], name: str) -> None:
    assert erasures.describe(torch.tensor(available)) == name


@pytest.mark.parametrize(("n", "most"), [(1, 1), (3, 0), (3, 1), (5, 2), (6, 6), (11, 3), (41, 1)])
def test_pattern_index_numbers_every_pattern_once_without_gaps(n: int, most: int) -> None:
    index = erasures.PatternIndex(n, most)
    total = sum(math.comb(n, erased) for erased in range(most + 1))
    assert index.num_patterns == total
    rows = torch.cat([erasures.patterns(n, erased) for erased in range(most + 1)])
    numbers = index(rows)
    assert numbers.dtype == torch.int64
    assert sorted(numbers.tolist()) == list(range(total))
    assert torch.equal(index(index.patterns()), torch.arange(total))


def test_pattern_index_puts_fewer_erasures_first() -> None:
    erased = (~erasures.PatternIndex(7, 3).patterns()).sum(1).tolist()
    assert erased == sorted(erased)
