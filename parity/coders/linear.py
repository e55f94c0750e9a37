"""Linear (k, r) codes: addition and subtraction, and their generalisation to several parity models.

Parity query j is sum_i C[j, i] * query_i, its target sum_i C[j, i] * prediction_i, and decoding is one small matrix for
each erasure pattern. For r = 1 this is the addition/subtraction code of Kosaian, Rashmi, Venkataraman (SOSP 2019,
section 4.2), and its generalisation to r > 1 there (section 3.5).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from parity.coders.base import Encoder, Shape, SystematicDecoder
from parity.coders.matrices import combine, combine_each
from parity.coders.pattern_cache import Pattern, PatternCache
from parity.erasures import PatternIndex
from parity.errors import ParityError

# Column i holds the coefficients of query i; a code with k < 8 uses the first k columns.
_COEFFICIENTS = {
    2: (
        (0.4993, 0.1263, 0.2947, 0.4224, 0.4987, 0.1285, 0.2928, 0.4237),
        (0.1263, -0.4993, 0.4224, -0.2947, -0.1285, 0.4987, -0.4237, 0.2928),
    ),
    3: (
        (0.6515, 0.4300, 0.1577, 0.1818, 0.8024, 0.1157, 0.4244, 0.5929),
        (0.4711, 0.8361, -0.3720, 0.5657, -0.5159, 0.9607, -0.6156, 0.0706),
        (-0.5573, 0.3246, 0.8943, -0.4600, -0.3000, 0.2246, -0.4923, 0.6152),
    ),
}


def coefficients(k: int, r: int) -> Tensor:
    """Return the coefficients C of the linear (k, r) code.

    Rebuilding e predictions from e parity outputs solves a linear system whose matrix is an e x e block of C, so every
    square block must be invertible. Because parity models only approximate their targets, it should be well
    conditioned too, and its inverse small: that is the factor by which their errors grow.

    r = 1: ones. r = 2: eight points of the half circle, 0.515 (cos t, sin t) at t = 14.2 deg + 20.45 deg * i and the
    same turned by -90 deg: an almost even spacing keeps any two of them far from parallel, and the offset keeps them
    off the axes, where a coefficient would vanish. r = 3: eight points found by minimising the norm of the inverse over
    all blocks. Vandermonde rows, the textbook choice, are worse: at Chebyshev nodes a block of k = 8, r = 2 has a
    condition number of 24, and with r = 3 blocks are singular. The columns are ordered so that the first k are a good
    choice for every k. The largest condition numbers over all square blocks are

        k       2     3     4     5     6     7     8
        r = 2   1.0   2.7   2.7   5.5   5.5   5.5   5.5
        r = 3   4.2   6.7   14.5  14.5  14.5  14.5  14.6

    Returns:
        float64 (r, k).

    Raises:
        ParityError: r > 1 with k > 8, or r > 3.
    """
    if r == 1:
        return torch.ones(1, k, dtype=torch.float64)
    if r not in _COEFFICIENTS or k > 8:
        raise ParityError(
            f"the linear code does any k with r = 1, and k up to 8 with r = 2 or 3, not k = {k} and r = {r}."
        )
    return torch.tensor(_COEFFICIENTS[r], dtype=torch.float64)[:, :k]


class LinearEncoder(Encoder):
    """Parity query j = sum_i C[j, i] * query_i, element by element and so channel by channel."""

    def __init__(self, k: int, r: int, query_shape: Shape) -> None:
        super().__init__(k, r, query_shape)
        self.register_buffer("coefficients", coefficients(k, r).float())
        self.coefficients: Tensor

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> parity queries (G, r, *Q)."""
        return combine(self.coefficients, queries)


class _Plan(NamedTuple):
    """How to decode under one pattern: indices of predictions to rebuild, of outputs that arrived, and the matrix."""

    missing: Tensor
    arrived: Tensor
    matrix: Tensor


class LinearDecoder(SystematicDecoder):
    """Solves for the missing predictions; serves every code whose parity targets are linear in the predictions.

    Any k of the n outputs suffice. Where more parity outputs arrived than predictions are missing, all of them are
    used, in the least-squares sense.
    """

    def __init__(self, k: int, r: int, prediction_shape: Shape) -> None:
        super().__init__(k, r, prediction_shape)
        self.register_buffer("coefficients", coefficients(k, r).float())
        self.pattern_index = PatternIndex(self.n, r)
        matrices = [decoding_matrix(coefficients(k, r), row) for row in self.pattern_index.patterns()]
        self.register_buffer("matrices", torch.stack(matrices).float())
        self.coefficients: Tensor
        self.matrices: Tensor
        self._plans: PatternCache[_Plan] = PatternCache()

    def parity_targets(self, predictions: Tensor) -> Tensor:
        """Return C @ predictions: (G, k, *P) -> (G, r, *P)."""
        return combine(self.coefficients, predictions)

    def can_decode(self, available: Tensor) -> Tensor:
        """Any k outputs suffice: bool (G, n) -> bool (G,)."""
        return available.sum(1) >= self.k

    def decode_under(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Tensor) -> Tensor:
        return self.decode_one(base_outputs, parity_outputs, tuple(pattern.tolist()))

    def decode_patterns(self, base_outputs: Tensor, parity_outputs: Tensor, patterns: Tensor) -> Tensor:
        return torch.stack([self.decode_under(base_outputs, parity_outputs, pattern) for pattern in patterns])

    def decode_one(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Pattern) -> Tensor:
        plan = self._plans.get(pattern, self._plan, self.matrices.device)
        if not plan.missing.shape[0]:
            return base_outputs
        arrived = torch.cat([base_outputs, parity_outputs], dim=1).index_select(1, plan.arrived)
        return base_outputs.index_copy(1, plan.missing, combine(plan.matrix, arrived))

    def _plan(self, pattern: Pattern) -> _Plan:
        available = torch.tensor(pattern, device=self.matrices.device)
        matrix = self.matrices[self.pattern_index(available[None])[0]]
        missing, arrived = (~available[: self.k]).nonzero().flatten(), available.nonzero().flatten()
        return _Plan(missing, arrived, matrix[missing][:, arrived])

    def rebuild_each(self, base_outputs: Tensor, parity_outputs: Tensor) -> Tensor:
        own = torch.arange(self.k, device=self.matrices.device)
        missing_own = self.matrices[1 + own, own]  # pattern 0 has no erasure, pattern 1 + i misses output i alone
        return combine(missing_own, torch.cat([base_outputs, parity_outputs], dim=1))

    def rebuild(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Apply the pattern's matrix: D[pattern] (k, n) @ outputs (n, *P), for each group."""
        outputs = torch.cat([base_outputs, parity_outputs], dim=1)
        return combine_each(self.matrices[self.pattern_index(available)], outputs)


def decoding_matrix(code: Tensor, available: Tensor) -> Tensor:
    """Return D with reconstructions = D @ outputs, for one erasure pattern of a linear code.

    Args:
        code: coefficients C, float64 (r, k).
        available: bool (n,) with at least k True.

    Returns:
        float64 (k, n): row i is the unit vector i where prediction i is available, and otherwise the least-squares
        solution of C[p, missing] x = parity outputs p - C[p, arrived] @ predictions arrived.
    """
    r, k = code.shape
    arrived, missing = available[:k].nonzero().flatten(), (~available[:k]).nonzero().flatten()
    parities = available[k:].nonzero().flatten()
    matrix = torch.zeros(k, k + r, dtype=torch.float64)
    matrix[arrived, arrived] = 1
    if len(missing):
        inverse = torch.linalg.pinv(code[parities][:, missing])
        matrix[missing[:, None], k + parities] = inverse
        matrix[missing[:, None], arrived] = -inverse @ code[parities][:, arrived]
    return matrix
