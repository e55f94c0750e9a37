"""ApproxIFER: Berrut's rational interpolation as a code, for any (k, r) and any network, without training.

Soleymani, Ali, Mahdavifar, Avestimehr: "ApproxIFER: A Model-Agnostic Approach to Resilient and Robust Prediction
Serving Systems" (AAAI 2022), without its defence against workers that lie. The interpolant is that of Berrut:
"Rational functions for guaranteed and experimentally well-conditioned global interpolation" (1988).

A_d(e) on MNIST test with the published base model, A_a 0.9793 (tests/coders/test_berrut.py):

    k               2      3      4      8      12
    r = 1           0.856  0.758  0.724  0.682  0.672
    r = 2, e = 1    0.974  0.941  0.907  0.884
    r = 2, e = 2    0.866  0.805  0.809  0.818
"""

import torch
from torch import Tensor

from parity.coders.interpolation import InterpolatingDecoder, InterpolatingEncoder


class BerrutEncoder(InterpolatingEncoder):
    """Samples Berrut's interpolant through the queries; see ``berrut_matrix``."""

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        return berrut_matrix(nodes, at)


class BerrutDecoder(InterpolatingDecoder):
    """Reads Berrut's interpolant through the outputs that arrived; signs alternate over these, in node order."""

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        return berrut_matrix(nodes, at)


def berrut_matrix(nodes: Tensor, at: Tensor) -> Tensor:
    """Return B with values at ``at`` = B @ values at ``nodes``.

    With d_i = z - x_i, the interpolant is sum_i (-1)^i y_i / d_i over sum_i (-1)^i / d_i. It has no pole on the real
    line, whichever nodes there are, as long as the signs alternate in their order. At a node it is the node's value.

    Args:
        nodes: x, float64 (N,), ascending or descending.
        at: z, float64 (A,).

    Returns:
        float64 (A, N), of rows that sum to 1.
    """
    distances = at[:, None] - nodes
    # Nodes of both kinds for less than a thousand queries, unless the same, lie 1e-9 apart at least.
    same = distances.abs() < 1e-12
    signs = 1.0 - 2.0 * (torch.arange(len(nodes)) % 2)
    terms = signs / distances.masked_fill(same, 1.0)
    weights = terms / terms.sum(1, keepdim=True)
    return torch.where(same.any(1, keepdim=True), same.to(weights), weights)
