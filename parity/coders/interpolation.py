"""What training-free codes by interpolation have in common: a curve through the queries, and one through the outputs.

All n workers run the base model F. The encoder lays a curve u through the queries, u(alpha_j) = query_j, and asks
worker i for F(u(beta_i)). The decoder lays a second curve v through the outputs that arrived, (beta_i, F(u(beta_i))),
and reads v(alpha_j), close to F(query_j) where F(u(.)) is smooth. Curves are linear in what they go through, so both
are small matrices. Even with all outputs at hand every prediction has to be rebuilt, and is not exact.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from parity import erasures
from parity.coders.base import Decoder, Encoder, Shape, like
from parity.coders.matrices import combine, combine_each
from parity.coders.pattern_cache import Pattern, PatternCache
from parity.erasures import PatternIndex
from parity.errors import ParityError

# Numbers in the matrices that a decoder keeps, 16 MiB of them.
_MOST_KEPT = 1 << 22

# Numbers in a table of all patterns' matrices, 64 MiB of them.
_MOST_TABULATED = 1 << 24


def message_nodes(k: int) -> Tensor:
    """Return the alphas, Chebyshev nodes of the first kind cos((2j + 1) pi / 2k), descending: float64 (k,)."""
    return ((2 * torch.arange(k, dtype=torch.float64) + 1) * (math.pi / (2 * k))).cos()


Nodes = Callable[[int], Tensor]
"""n -> the betas of n workers, different numbers from 1 to -1, descending: float64 (n,)."""


def worker_nodes(n: int) -> Tensor:
    """Return the betas, Chebyshev nodes of the second kind cos(i pi / (n - 1)), descending: float64 (n,)."""
    return (torch.arange(n, dtype=torch.float64) * (math.pi / max(n - 1, 1))).cos()


def dct_nodes(n: int) -> Tensor:
    """Return SBACC's betas, Chebyshev nodes of the first kind cos((2i + 1) pi / 2n), descending: float64 (n,).

    Borah, Harshan: "On Securing Berrut Approximated Coded Computing Through Discrete Cosine Transforms" (arXiv
    2507.01330): with them outputs on a polynomial are a code word of the discrete cosine transform, whose wrong numbers
    can be found.
    """
    return message_nodes(n)


class InterpolatingEncoder(Encoder):
    """Samples a curve through the queries: coded query i is sum_j matrix[i, j] * query_j.

    Args:
        k: any.
        r: any.
        query_shape: any.
        nodes: makes the betas, the same as the decoder's.
    """

    systematic = False

    def __init__(self, k: int, r: int, query_shape: Shape, nodes: Nodes = worker_nodes) -> None:
        super().__init__(k, r, query_shape)
        self.register_buffer("matrix", self.curve(message_nodes(k), nodes(self.n)).float())
        self.matrix: Tensor

    @property
    def parity_workers(self) -> int:
        return 0

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        """Return the matrix that takes values at ``nodes`` (N,), monotone, to the curve's at ``at`` (A,): (A, N)."""
        raise NotImplementedError

    def forward(self, queries: Tensor) -> Tensor:
        """Encode: queries (G, k, *Q) -> coded queries (G, n, *Q)."""
        return combine(self.matrix, queries)

    def dispatch(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the base model everything: queries (G, k, *Q) -> (G, n, *Q) and (G, 0, *Q)."""
        self.check(queries)
        return self(queries), queries[:, :0]


class _Plan(NamedTuple):
    """How to decode under one pattern: the matrix D (k, n), and which outputs it leaves out, bool (1, n)."""

    matrix: Tensor
    missing: Tensor

    def to(self, device: torch.device) -> "_Plan":
        return _Plan(self.matrix.to(device, non_blocking=True), self.missing.to(device, non_blocking=True))


class InterpolatingDecoder(Decoder):
    """Reads the k predictions off a curve through the outputs that arrived.

    A curve goes through any number of outputs, and the fewer there are, the further it is off. ``needed`` is from how
    many on its predictions are given out. By default that is k, as for the other (k, r) codes, and as ApproxIFER's
    server waits for the fastest k. With 1 no output that arrived is left unused: more is right than with
    the default prediction instead, but nothing marks the predictions that are worth little.

    The matrix of a pattern is computed in float64 when the pattern first comes up, and kept. Finding out which patterns
    there are waits for the device, unless ``available`` lies on the CPU.

    Args:
        needed: outputs that must have arrived, 1 to k; by default k.
        nodes: makes the betas, the same as the encoder's.

    Raises:
        ParityError: ``needed`` is out of range.
    """

    def __init__(
        self, k: int, r: int, prediction_shape: Shape, needed: int | None = None, nodes: Nodes = worker_nodes
    ) -> None:
        super().__init__(k, r, prediction_shape)
        self.needed = k if needed is None else needed
        if not 1 <= self.needed <= k:
            raise ParityError(f"needed counts outputs that must arrive, 1 to k = {k}, so it cannot be {needed}.")
        self._alphas, self._betas = message_nodes(k), nodes(self.n)
        self._own: PatternCache[Tensor] = PatternCache()
        self._plans: PatternCache[_Plan] = PatternCache(max(1, _MOST_KEPT // (k * self.n)))

    def curve(self, nodes: Tensor, at: Tensor) -> Tensor:
        """Return the matrix that takes values at ``nodes`` (N,), monotone, to the curve's at ``at`` (A,): (A, N)."""
        raise NotImplementedError

    def can_decode(self, available: Tensor) -> Tensor:
        """Any ``needed`` outputs suffice: bool (G, n) -> bool (G,)."""
        return available.sum(1) >= self.needed

    def rebuilt(self, available: Tensor) -> Tensor:
        """Return that every prediction has to be rebuilt: bool (G, n) -> bool (G, k), all True."""
        return torch.ones_like(available[:, : self.k])

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Apply each pattern's matrix: base outputs (G, n, *P), parity outputs (G, 0, *P) -> (G, k, *P)."""
        device = base_outputs.device
        missing = (~available).to(device, non_blocking=True)
        matrices = self.matrices(available).to(device, non_blocking=True)
        return combine_each(matrices, base_outputs.masked_fill(like(missing, base_outputs), 0))

    def where_read(self, device: torch.device) -> torch.device:
        return torch.device("cpu")  # for its patterns are looked up there

    def rebuild_each(self, base_outputs: Tensor, parity_outputs: Tensor) -> Tensor:
        def rows(_: object) -> Tensor:
            own = torch.arange(self.k)
            matrices = self.matrices(erasures.single_erasures(self.k, self.n))
            return matrices[own, own].to(base_outputs.device, non_blocking=True)

        return combine(self._own.get("each", rows, base_outputs.device), base_outputs)

    def decode_under(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Tensor) -> Tensor:
        return self.decode_one(base_outputs, parity_outputs, tuple(pattern.tolist()))

    def decode_patterns(self, base_outputs: Tensor, parity_outputs: Tensor, patterns: Tensor) -> Tensor:
        return torch.stack([self.decode_under(base_outputs, parity_outputs, pattern) for pattern in patterns])

    def decode_one(self, base_outputs: Tensor, parity_outputs: Tensor, pattern: Pattern) -> Tensor:
        device = base_outputs.device
        plan = self._plans.get(pattern, lambda _: self._plan(pattern).to(device), device)
        return combine(plan.matrix, base_outputs.masked_fill(like(plan.missing, base_outputs), 0))

    def matrices(self, available: Tensor) -> Tensor:
        """Return D with reconstructions = D @ outputs for each pattern: bool (G, n) -> float32 (G, k, n) on the CPU."""
        patterns, index = available.cpu().unique(dim=0, return_inverse=True)
        found = torch.empty(len(patterns), self.k, self.n)
        for row, pattern in enumerate(patterns.tolist()):
            found[row] = self._plans.get(tuple(pattern), self._plan).matrix
        return found[index]

    def _plan(self, pattern: Pattern) -> _Plan:
        available = torch.tensor(pattern)
        matrix = torch.zeros(self.k, self.n)
        matrix[:, available] = self.curve(self._betas[available], self._alphas).float()
        return _Plan(matrix, ~available[None])

    def traceable(self) -> "TabulatedDecoder":
        return TabulatedDecoder(self)


class TabulatedDecoder(Decoder):
    """An interpolating decoder with the matrices of all patterns that it can decode in one table.

    Args:
        decoder: whose matrices.

    Raises:
        ParityError: the table would have more than 2^24 numbers.
    """

    def __init__(self, decoder: InterpolatingDecoder) -> None:
        super().__init__(decoder.k, decoder.r, decoder.prediction_shape)
        self.needed = decoder.needed
        most = self.n - self.needed
        size = self.k * self.n * sum(math.comb(self.n, erased) for erased in range(most + 1))
        if size > _MOST_TABULATED:
            raise ParityError(
                f"a table of all erasure patterns of {type(decoder).__name__} (k = {self.k}, r = {self.r}, "
                f"needed = {self.needed}) has {size} numbers, more than {_MOST_TABULATED}: ask for more outputs "
                "(needed=), or for a smaller code."
            )
        self.index = PatternIndex(self.n, most)
        self.register_buffer("table", decoder.matrices(self.index.patterns()))
        self.table: Tensor

    def can_decode(self, available: Tensor) -> Tensor:
        """Any ``needed`` outputs suffice: bool (G, n) -> bool (G,)."""
        return available.sum(1) >= self.needed

    def rebuilt(self, available: Tensor) -> Tensor:
        """Return that every prediction has to be rebuilt: bool (G, n) -> bool (G, k), all True."""
        return torch.ones_like(available[:, : self.k])

    def decode(self, base_outputs: Tensor, parity_outputs: Tensor, available: Tensor) -> Tensor:
        """Look each pattern's matrix up: base outputs (G, n, *P), parity outputs (G, 0, *P) -> (G, k, *P)."""
        arrived = base_outputs.masked_fill(like(~available, base_outputs), 0)
        return combine_each(self.table[self.index(available)], arrived)
