"""NeRCC: smoothing splines as a code, for any (k, r) and any network, without training.

Moradi, Maddah-Ali: "NeRCC: Nested-Regression Coded Computing for Resilient Distributed Prediction Serving Systems",
arXiv 2402.04377.

A_d(e) on MNIST test with the published base model, A_a 0.9793, and the smoothing that was chosen on validation data
for one missing output, lambda_enc / lambda_dec (tests/evaluation/test_smoothing.py):

    k               2      3            4         8            12
    r = 1           0.856  0.814        0.772     0.704        0.681
    smoothing       0 / 0  1e-3 / 0     0 / 0     1e-4 / 0     1e-5 / 0
    r = 2, e = 1    0.976  0.940        0.917     0.906
    r = 2, e = 2    0.866  0.828        0.817     0.840
    smoothing       0 / 0  1e-2 / 1e-3  1e-3 / 0  1e-5 / 1e-5

With the default smoothing, 1e-4 / 1e-4, these are less by up to 0.9 points.
"""

import math

import torch
from torch import Tensor

from parity.coders.base import Shape
from parity.coders.interpolation import InterpolatingDecoder, InterpolatingEncoder
from parity.errors import ParityError


class NeRCCEncoder(InterpolatingEncoder):
    """Coded queries are a smoothing spline through (alpha_j, query_j), sampled at the betas.

    Args:
        smoothing: lambda_enc, see ``smoothing_matrix``; ``parity.evaluation.choose_smoothing`` finds a good one.

    Raises:
        ParityError: ``smoothing`` is negative.
    """

    def __init__(self, k: int, r: int, query_shape: Shape, smoothing: float = 1e-4) -> None:
        self.smoothing = _checked(smoothing)
        super().__init__(k, r, query_shape)

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        return smoothing_matrix(nodes, at, self.smoothing)


class NeRCCDecoder(InterpolatingDecoder):
    """Reads a smoothing spline through the outputs that arrived.

    Args:
        smoothing: lambda_dec, see ``smoothing_matrix``; ``parity.evaluation.choose_smoothing`` finds a good one.
        needed: outputs that must have arrived, 1 to k; by default k.

    Raises:
        ParityError: ``smoothing`` is negative, or ``needed`` out of range.
    """

    def __init__(
        self, k: int, r: int, prediction_shape: Shape, smoothing: float = 1e-4, needed: int | None = None
    ) -> None:
        self.smoothing = _checked(smoothing)
        super().__init__(k, r, prediction_shape, needed)

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        return smoothing_matrix(nodes, at, self.smoothing)


def smoothing_matrix(nodes: Tensor, at: Tensor, smoothing: float) -> Tensor:
    """Return S with values at ``at`` = S @ values at ``nodes``, of a cubic smoothing spline.

    Of all functions v, the spline is the one with the least sum_i (y_i - v(x_i))^2 + lambda * integral of v''^2. With
    its second derivatives g at the inner nodes, (R + lambda Q'Q) g = Q'y and v(x) = y - lambda Q g (Green and
    Silverman, "Nonparametric Regression and Generalized Linear Models", 1994, chapter 2). It is a straight line beyond
    the outermost nodes, the natural cubic spline through all points at lambda = 0, and their least-squares line as
    lambda grows. Through one node it is constant.

    Args:
        nodes: x, float64 (N,), distinct, ascending or descending.
        at: z, float64 (A,).
        smoothing: lambda, from 0 to infinity.

    Returns:
        float64 (A, N), of rows that sum to 1.
    """
    if len(nodes) == 1:
        return torch.ones(len(at), 1, dtype=torch.float64)
    if nodes[0] > nodes[-1]:
        return smoothing_matrix(nodes.flip(0), at, smoothing).flip(1)
    steps = nodes.diff()
    # Column i of Q takes values to the jump of their slope at inner node i; R takes g to the jump that it makes.
    slopes = torch.diag(1 / steps) @ torch.eye(len(nodes), dtype=torch.float64).diff(dim=0)
    jumps = slopes.diff(dim=0)
    bends = torch.diag((steps[:-1] + steps[1:]) / 3) + torch.diag(steps[1:-1] / 6, 1) + torch.diag(steps[1:-1] / 6, -1)
    share = 1 / (1 + smoothing)  # both sides in units of 1 + lambda: ordinary numbers for every lambda
    solution = torch.linalg.solve(share * bends + (1 - share) * jumps @ jumps.T, jumps)
    values = torch.eye(len(nodes), dtype=torch.float64) - (1 - share) * jumps.T @ solution
    curvatures = torch.nn.functional.pad(share * solution, (0, 0, 1, 1))  # none at the outermost nodes
    return _sample(nodes, values, curvatures, at)


def _sample(nodes: Tensor, values: Tensor, curvatures: Tensor, at: Tensor) -> Tensor:
    """Sample cubic splines, given as values and second derivatives (N, S) at the nodes, straight beyond: (A, S)."""
    right = torch.searchsorted(nodes, at).clamp(1, len(nodes) - 1)
    left = right - 1
    step = (nodes[right] - nodes[left])[:, None]
    to_left = (nodes[right] - at)[:, None] / step
    to_right = 1 - to_left
    straight = to_left * values[left] + to_right * values[right]
    bent = _cubic(to_left) * curvatures[left] + _cubic(to_right) * curvatures[right]
    return straight + step**2 / 6 * bent


def _cubic(share: Tensor) -> Tensor:
    return torch.where(share < 0, -share, share**3 - share)


def _checked(smoothing: float) -> float:
    if math.isnan(smoothing) or smoothing < 0:
        raise ParityError(f"smoothing is a number from 0 to infinity, not {smoothing}.")
    return float(smoothing)
