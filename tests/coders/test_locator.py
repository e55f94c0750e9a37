"""Wrong outputs among workers that all run the base model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parity.coders import BerrutEncoder
from parity.coders.interpolation import Nodes, dct_nodes, worker_nodes
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
