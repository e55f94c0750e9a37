import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, make_smoothing_spline
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import NeRCCDecoder, NeRCCEncoder
from parity.coders.interpolation import message_nodes, worker_nodes
from parity.coders.nercc import smoothing_matrix
from parity.errors import ParityError


def line_fit(nodes: Tensor, at: Tensor) -> Tensor:
    """The matrix of the least-squares line."""
    return torch.stack([torch.ones_like(at), at], 1) @ torch.linalg.pinv(
        torch.stack([torch.ones_like(nodes), nodes], 1)
    )


def line_through(nodes: Tensor) -> Tensor:
    return 3 - 2 * nodes


@pytest.mark.parametrize("smoothing", [1e-6, 1e-3, 1.0, 50.0])
@pytest.mark.parametrize("n", [5, 8, 20])
def test_it_is_scipys_smoothing_spline_between_the_outermost_nodes(n: int, smoothing: float) -> None:
    nodes, at = worker_nodes(n), message_nodes(7)
    ascending = nodes.flip(0).numpy()
    columns = [make_smoothing_spline(ascending, unit, lam=smoothing)(at.numpy()) for unit in np.eye(n)]
    assert np.allclose(np.stack(columns, 1)[:, ::-1], smoothing_matrix(nodes, at, smoothing).numpy(), atol=1e-6)


@pytest.mark.parametrize("n", [3, 4, 5, 9, 60])
def test_without_smoothing_it_is_the_natural_spline_through_all_points(n: int) -> None:
    nodes, at = worker_nodes(n), message_nodes(7)
    spline = CubicSpline(nodes.flip(0).numpy(), np.eye(n), bc_type="natural")
    assert np.allclose(spline(at.numpy())[:, ::-1], smoothing_matrix(nodes, at, 0.0).numpy(), atol=1e-9)
    assert torch.allclose(smoothing_matrix(nodes, nodes, 0.0), torch.eye(n, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 9, 60])
@pytest.mark.parametrize(("smoothing", "tolerance"), [(1e9, 1e-6), (math.inf, 1e-10)])
def test_as_smoothing_grows_it_is_the_least_squares_line(n: int, smoothing: float, tolerance: float) -> None:
    nodes, at = worker_nodes(n), torch.linspace(-2, 2, 9, dtype=torch.float64)
    assert torch.allclose(smoothing_matrix(nodes, at, smoothing), line_fit(nodes, at), atol=tolerance)


@given(n=st.integers(2, 50), smoothing=st.floats(0, 1e6))
def test_straight_lines_are_reproduced_whatever_the_smoothing(n: int, smoothing: float) -> None:
    nodes, at = message_nodes(n), torch.linspace(-2, 2, 9, dtype=torch.float64)
    matrix = smoothing_matrix(nodes, at, smoothing)
    assert torch.allclose(matrix @ line_through(nodes), line_through(at), atol=1e-8)
    assert torch.allclose(matrix.sum(1), torch.ones(9, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize("smoothing", [0.0, 1e-3, 1.0])
def test_it_is_straight_beyond_the_outermost_nodes(smoothing: float) -> None:
    nodes = message_nodes(6)
    for end in (nodes[0], nodes[-1]):
        at = end + end.sign() * torch.tensor([0, 1e-7, 0.5, 1.0], dtype=torch.float64)
        values = smoothing_matrix(nodes, at, smoothing)
        slope = (values[3] - values[0]) / (at[3] - at[0])
        assert torch.allclose(values[2], values[0] + slope * (at[2] - at[0]))
        inside = smoothing_matrix(nodes, at[:1] - end.sign() * 1e-6, smoothing)[0]
        assert torch.allclose((values[0] - inside) / (end.sign() * 1e-6), slope, atol=1e-3), "no kink"


@pytest.mark.parametrize("smoothing", [0.01, 0.3])
def test_nothing_else_costs_less(smoothing: float) -> None:
    """The penalised sum of squares, with the integral taken numerically, is least at the spline."""
    nodes, dense = worker_nodes(7), torch.linspace(-1, 1, 4001, dtype=torch.float64)
    observed = torch.randn(7, dtype=torch.float64)

    def cost(curve: Tensor, at_nodes: Tensor) -> float:
        second = curve.diff().diff() / (dense[1] - dense[0]) ** 2
        return float(((observed - at_nodes) ** 2).sum() + smoothing * (second**2).sum() * (dense[1] - dense[0]))

    best_curve = smoothing_matrix(nodes, dense, smoothing) @ observed
    best_values = smoothing_matrix(nodes, nodes, smoothing) @ observed
    best = cost(best_curve, best_values)
    for shift in torch.randn(10, 7, dtype=torch.float64) * 0.05:
        other = best_values + shift
        assert cost(smoothing_matrix(nodes, dense, 0.0) @ other, other) > best
    for frequency in (1, 2, 3):
        ripple = [0.02 * (frequency * at).sin() for at in (dense, nodes)]
        assert cost(best_curve + ripple[0], best_values + ripple[1]) > best


def test_order_of_nodes_does_not_matter() -> None:
    nodes, at = worker_nodes(6), message_nodes(4)
    assert torch.allclose(smoothing_matrix(nodes.flip(0), at, 0.1).flip(1), smoothing_matrix(nodes, at, 0.1))


def test_encoder_and_decoder_have_their_own_smoothing() -> None:
    encoder, decoder = NeRCCEncoder(5, 2, (3,), smoothing=0.2), NeRCCDecoder(5, 2, (2,), smoothing=0.03)
    assert torch.allclose(encoder.matrix, smoothing_matrix(message_nodes(5), worker_nodes(7), 0.2).float())
    pattern = torch.tensor([True, True, False, True, True, False, True])
    expected = smoothing_matrix(worker_nodes(7)[pattern], message_nodes(5), 0.03).float()
    assert torch.allclose(decoder.matrices(pattern[None])[0][:, pattern], expected)


def test_two_queries_of_a_linear_base_model_are_rebuilt_from_any_two_outputs() -> None:
    base = nn.Linear(3, 2)
    model = CodedModel(base, NeRCCEncoder(2, 3, (3,)), [], NeRCCDecoder(2, 3, (2,)))
    queries = torch.randn(10, 2, 3)
    available = torch.combinations(torch.arange(5), 2)
    available = torch.zeros(10, 5, dtype=torch.bool).scatter(1, available, True)
    assert torch.allclose(model(queries, available), model.base_outputs(queries), atol=1e-4)


@pytest.mark.parametrize("coder", [NeRCCEncoder, NeRCCDecoder])
@pytest.mark.parametrize("smoothing", [-1e-9, math.nan])
def test_smoothing_is_not_negative(coder: type, smoothing: float) -> None:
    with pytest.raises(ParityError, match=f"smoothing is a number from 0 to infinity, not {smoothing}"):
        coder(3, 1, (2,), smoothing=smoothing)
