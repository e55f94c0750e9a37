"""Wrong outputs among workers that all run the base model."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parity.coders import BerrutEncoder
from parity.coders.interpolation import Nodes, dct_nodes, worker_nodes
from parity.coders.likely_locator import LikelyLocator
from parity.coders.locator import RationalLocator
from parity.errors import ParityError


def wrong(outputs: torch.Tensor, errors: int, seed: int, factor: float = -5.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (G, n, C) of which E of each group, drawn at random, are multiplied; and bool (G, n), which."""
    order = torch.rand(outputs.shape[:2], generator=torch.Generator().manual_seed(seed)).argsort(1)
    which = order < errors
    return torch.where(which.unsqueeze(-1), factor * outputs, outputs), which


@settings(max_examples=25, deadline=None)
@given(
    k=st.integers(2, 8),
    errors=st.integers(1, 3),
    lost=st.integers(0, 2),
    seed=st.integers(0, 99),
    nodes=st.sampled_from([worker_nodes, dct_nodes]),
)
def test_on_a_linear_base_model_every_wrong_output_is_found(
    k: int, errors: int, lost: int, seed: int, nodes: Nodes
) -> None:
    torch.manual_seed(seed)
    n = 2 * (k + errors) - 1 + lost
    base, encoder = nn.Linear(12, 10).double(), BerrutEncoder(k, n - k, (12,), nodes=nodes).double()
    outputs = base(encoder(torch.randn(20, k, 12, dtype=torch.double))).detach()
    broken, which = wrong(outputs, errors, seed)
    available = torch.ones(20, n, dtype=torch.bool)
    available[~which & (torch.cumsum(~which, 1) <= lost)] = False
    broken = broken.masked_fill(~available.unsqueeze(-1), torch.nan)
    suspect = RationalLocator(k, n, errors, nodes)(broken, broken[:, :0], available)
    assert (suspect == which).all(1).double().mean() >= 0.95  # a wrong output can lie on the curve by chance


def test_outputs_that_are_not_numbers_come_first() -> None:
    outputs = torch.randn(3, 9, 10)
    outputs[1, 4, 2] = torch.nan
    suspect = RationalLocator(3, 9, 2)(outputs, outputs[:, :0], torch.ones(3, 9, dtype=torch.bool))
    assert suspect[1, 4]
    assert (suspect.sum(1) == 2).all()


def test_too_few_workers_or_outputs_are_refused() -> None:
    with pytest.raises(ParityError, match=r"among 2 \(k \+ E\) - 1 = 9 workers or more"):
        RationalLocator(3, 8, 2)
    outputs, available = torch.randn(1, 9, 10), torch.ones(1, 9, dtype=torch.bool)
    available[0, 3] = False
    with pytest.raises(ParityError, match="needs 9 outputs of each group"):
        RationalLocator(3, 9, 2)(outputs, outputs[:, :0], available)


def likely(
    k: int, r: int, errors: int, seed: int, groups: int = 40
) -> tuple[torch.Tensor, torch.Tensor, LikelyLocator]:
    """Outputs (G, n, 10) of workers that run a small network, those of other groups, and a locator that knows these."""
    torch.manual_seed(seed)
    base = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    encoder = BerrutEncoder(k, r, (12,)).double()
    with torch.no_grad():
        known, outputs = (base(encoder(torch.randn(groups, k, 12, dtype=torch.double))) for _ in range(2))
    return outputs, known, LikelyLocator(known, errors)


@settings(max_examples=25, deadline=None)
@given(k=st.integers(2, 6), errors=st.integers(1, 3), lost=st.integers(0, 2), seed=st.integers(0, 99))
def test_outputs_that_are_unlike_the_others_are_found(k: int, errors: int, lost: int, seed: int) -> None:
    n = 2 * (k + errors) - 1 + lost
    outputs, _, locator = likely(k, n - k, errors, seed)
    broken, which = wrong(outputs, errors, seed)
    available = torch.ones(len(outputs), n, dtype=torch.bool)
    available[~which & (torch.cumsum(~which, 1) <= lost)] = False
    broken = broken.masked_fill(~available.unsqueeze(-1), torch.nan)
    suspect = locator(broken, broken[:, :0], available)
    assert (suspect.sum(1) == errors).all()
    assert (suspect == which).all(1).double().mean() >= 0.9  # a small output times -5 is still likely


def test_the_least_likely_choice_is_that_of_the_normal_distribution() -> None:
    """By hand: leave out each pair in turn, and take the one without which the others' log-likelihood gains most."""
    outputs, known, locator = likely(k=3, r=6, errors=2, seed=5)
    broken, _ = wrong(outputs, 2, seed=1)
    values = known.flatten(2)
    moments = sum(value @ value.mT for value in values) / (len(values) * 10)
    moments = moments + 0.01 * moments.diagonal().mean() * torch.eye(9)
    suspect = locator(broken, broken[:, :0], torch.ones(len(broken), 9, dtype=torch.bool))
    for group in range(5):
        distances = {}
        for pair in itertools.combinations(range(9), 2):
            left = [worker for worker in range(9) if worker not in pair]
            there = broken[group, left]
            distances[pair] = float((there * torch.linalg.solve(moments[left][:, left], there)).sum())
        assert suspect[group].nonzero().flatten().tolist() == list(min(distances, key=distances.__getitem__))


def test_what_is_not_a_number_comes_first_and_is_one_of_the_suspects() -> None:
    outputs, _, locator = likely(k=3, r=6, errors=2, seed=2)
    outputs[1, 4, 2], outputs[2, [0, 3, 5]] = torch.nan, torch.inf
    suspect = locator(outputs, outputs[:, :0], torch.ones(len(outputs), 9, dtype=torch.bool))
    assert suspect[1, 4]
    assert suspect.sum(1).tolist() == [2, 2, 3] + [2] * (len(outputs) - 3)


def test_an_output_that_is_not_a_number_counts_as_wrong_and_one_that_did_not_arrive_does_not() -> None:
    outputs, _, locator = likely(k=3, r=6, errors=2, seed=3)
    broken, which = wrong(outputs[:2].clone(), 1, seed=1)
    worker = int((~which).all(0).nonzero()[0])
    broken[:, worker] = torch.nan
    available = torch.ones(2, 9, dtype=torch.bool)
    available[0, worker] = False
    suspect = locator(broken, broken[:, :0], available)
    assert suspect[:, worker].tolist() == [False, True]
    assert suspect.sum(1).tolist() == [2, 2]
    assert (suspect & which).any(1).all()


def test_as_many_wrong_outputs_as_right_ones_are_refused() -> None:
    outputs = torch.randn(4, 5, 3)
    with pytest.raises(ParityError, match="E is 1 to 2"):
        LikelyLocator(outputs, 3)
    with pytest.raises(ParityError, match="too many choices of 10 wrong outputs among 40"):
        LikelyLocator(torch.randn(2, 40, 3), 10)
    available = torch.ones(4, 5, dtype=torch.bool)
    available[0, 0] = False
    with pytest.raises(ParityError, match="needs 5 outputs of each group"):
        LikelyLocator(outputs, 2)(outputs, outputs[:, :0], available)


@pytest.mark.parametrize("outputs", [torch.full((5, 5, 3), torch.nan), torch.ones(0, 5, 3), torch.zeros(4, 5, 3)])
def test_outputs_that_nothing_can_be_learnt_from_are_refused(outputs: torch.Tensor) -> None:
    with pytest.raises(ParityError, match="hold none, numbers that are not finite, or nothing but zeros"):
        LikelyLocator(outputs, 1)


@pytest.mark.parametrize("locator", [LikelyLocator(torch.randn(9, 7, 3), 1), RationalLocator(2, 7, 1)])
def test_another_number_of_workers_is_refused_and_no_groups_have_no_suspects(locator) -> None:
    with pytest.raises(ParityError, match="wrong outputs are looked for among 7 of each group"):
        locator(torch.randn(2, 8, 3), torch.empty(2, 0, 3), torch.ones(2, 8, dtype=torch.bool))
    assert locator(torch.randn(0, 7, 3), torch.empty(0, 0, 3), torch.ones(0, 7, dtype=torch.bool)).shape == (0, 7)


def test_all_that_is_not_a_number_is_named_also_where_it_is_more_than_asked_for() -> None:
    outputs = torch.randn(2, 9, 3)
    outputs[0, [1, 4]] = torch.nan
    found = RationalLocator(2, 9, 1)(outputs, torch.empty(2, 0, 3), torch.ones(2, 9, dtype=torch.bool))
    assert found[0].nonzero().flatten().tolist() == [1, 4]
    assert found[1].sum() == 1
