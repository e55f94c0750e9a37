"""Multiply-adds counted by hand, of layers that fused kernels compute."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.models.counting import count_multiply_adds

TOKENS, WIDTH, HEADS, HIDDEN = 20, 64, 4, 128
ATTENTION = TOKENS * 4 * WIDTH * WIDTH + 2 * TOKENS * TOKENS * WIDTH
"""Of projections to queries, keys, values and outputs, and of the products of all pairs of tokens."""


class Recurrent(nn.Module):
    """Predicts from what a recurrent layer puts out last."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 10)

    def forward(self, queries: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.layer(queries)[0][:, -1])
        return prediction


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers(kind: type[nn.RNNBase], gates: int, batch_first: bool) -> None:
    # (1, 20, 16) is a query of 20 steps, or 20 queries of one step: either way 20 cells are computed
    network, queries = Recurrent(kind(16, WIDTH, batch_first=batch_first), WIDTH), torch.rand(1, TOKENS, 16)
    assert count_multiply_adds(network, queries) == TOKENS * gates * WIDTH * (16 + WIDTH) + WIDTH * 10


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_in_two_directions_one_upon_the_other(kind: type[nn.RNNBase], gates: int) -> None:
    network = Recurrent(kind(16, WIDTH, num_layers=2, bidirectional=True, batch_first=True), 2 * WIDTH)
    steps = 2 * TOKENS * gates * WIDTH * ((16 + WIDTH) + (2 * WIDTH + WIDTH))
    assert count_multiply_adds(network, torch.rand(1, TOKENS, 16)) == steps + 2 * WIDTH * 10


class SelfAttention(nn.Module):
    """Attention of a sequence to itself, with or without weights."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention, self.need_weights = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), need_weights

    def forward(self, queries: Tensor) -> Tensor:
        attended: Tensor = self.attention(queries, queries, queries, need_weights=self.need_weights)[0]
        return attended


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention(need_weights: bool) -> None:
    assert count_multiply_adds(SelfAttention(need_weights), torch.rand(1, TOKENS, WIDTH)) == ATTENTION


def test_layers_of_a_transformer() -> None:
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, batch_first=True), 2)
    expected = 2 * (ATTENTION + TOKENS * 2 * WIDTH * HIDDEN)
    assert count_multiply_adds(network, torch.rand(1, TOKENS, WIDTH)) == expected


class Products(nn.Module):
    """The products of attention alone."""

    def forward(self, queries: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(queries, queries, queries)


def test_products_of_attention() -> None:
    assert count_multiply_adds(Products(), torch.rand(1, HEADS, TOKENS, 16)) == 2 * HEADS * TOKENS * TOKENS * 16


def _switches() -> list[object]:
    backends = torch.backends
    return [
        backends.mkldnn.enabled, backends.cudnn.enabled, backends.mha.get_fastpath_enabled(),
        backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled(), backends.cuda.mem_efficient_sdp_enabled(),
        backends.cudnn.benchmark, backends.cudnn.deterministic, backends.cudnn.fp32_precision,
        torch.get_float32_matmul_precision(),
    ]  # fmt: skip


class Failing(nn.Module):
    """Raises."""

    def forward(self, queries: Tensor) -> Tensor:
        raise RuntimeError("of a user's network")


@pytest.mark.parametrize("fast", [True, False])
def test_a_pass_that_fails_leaves_modes_and_switches_of_torch_as_they_were(fast: bool) -> None:
    network = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4), Failing()).train()
    network[1].eval()
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        switches = _switches()
        with pytest.raises(RuntimeError, match="of a user's network"):
            count_multiply_adds(network, torch.rand(1, 4))
        assert _switches() == switches
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert [module.training for module in network.modules()] == [True, True, False, True]


def test_a_frozen_norm_stays_frozen() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    network[1].eval()
    assert count_multiply_adds(network, torch.rand(1, 4)) == 16
    assert [module.training for module in network.modules()] == [True, True, False]
