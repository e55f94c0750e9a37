import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import erasures


@pytest.mark.parametrize("n", range(1, 8))
def test_patterns_are_all_choices_of_the_erased_outputs_in_lexicographic_order(n: int) -> None:
    for erased in range(n + 1):
        rows = erasures.patterns(n, erased)
        assert rows.dtype == torch.bool
        found = [tuple((~row).nonzero().flatten().tolist()) for row in rows]
        assert found == list(itertools.combinations(range(n), erased))


@pytest.mark.parametrize("n", range(1, 8))
def test_all_patterns_are_the_2_to_the_n_rows_with_the_fewest_erasures_first(n: int) -> None:
    rows = erasures.all_patterns(n)
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
def test_probabilities_of_all_patterns_sum_to_one_and_have_the_binomial_mean(n: int, f: float) -> None:
    rows = erasures.all_patterns(n)
    weights = erasures.probabilities(rows, f)
    assert weights.dtype == torch.float64
    assert weights.sum().item() == pytest.approx(1)
    assert (weights * (~rows).sum(1)).sum().item() == pytest.approx(n * f)


def test_probability_of_one_pattern() -> None:
    rows = torch.tensor([[True, False, True], [False, False, False]])
    assert erasures.probabilities(rows, 0.1).tolist() == pytest.approx([0.1 * 0.9**2, 0.1**3])
    assert erasures.probabilities(rows, 0.0).tolist() == [0, 0]
    assert erasures.probabilities(rows, 1.0).tolist() == [0, 1]
    assert erasures.probabilities(torch.ones(1, 3, dtype=torch.bool), 0.0).tolist() == [1]


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
