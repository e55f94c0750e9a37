"""Erasure patterns: which of the n outputs of a coding group did not arrive.

A pattern is a row of ``available`` (True = arrived): the m base outputs first, then the parity outputs.
"""

import itertools
import math

import torch
from torch import Tensor, nn


def patterns(n: int, erased: int) -> Tensor:
    """Return all patterns of exactly ``erased`` unavailable outputs among ``n``.

    Returns:
        bool (C(n, erased), n), in the lexicographic order of the erased positions.
    """
    available = torch.ones(math.comb(n, erased), n, dtype=torch.bool)
    for row, positions in enumerate(itertools.combinations(range(n), erased)):
        available[row, list(positions)] = False
    return available


def all_patterns(n: int) -> Tensor:
    """Return all 2^n patterns, those with the fewest erasures first: bool (2^n, n)."""
    return torch.cat([patterns(n, erased) for erased in range(n + 1)])


def missing_predictions(k: int, n: int, erased: int) -> Tensor:
    """Return all patterns in which exactly ``erased`` of the k predictions, and nothing else, are unavailable.

    Learned codes are trained on these: there parity outputs always arrive.

    Returns:
        bool (C(k, erased), n), in the lexicographic order of the erased positions.
    """
    predictions = patterns(k, erased)
    return torch.cat([predictions, predictions.new_ones(len(predictions), n - k)], dim=1)


def single_erasures(k: int, n: int) -> Tensor:
    """Return the k patterns in which one prediction, and nothing else, is unavailable: bool (k, n)."""
    return missing_predictions(k, n, 1)


def probabilities(available: Tensor, f: float) -> Tensor:
    """Return how likely each pattern is when every output is unavailable with probability ``f``, independently.

    Args:
        available: bool (N, n).
        f: probability, from 0 to 1.

    Returns:
        float64 (N,).
    """
    missing = (~available).sum(1).double()
    return f**missing * (1.0 - f) ** (available.shape[1] - missing)


def describe(available: Tensor) -> str:
    """Name one pattern, bool (n,): 'outputs 0 and 3 of 5 unavailable'."""
    positions = [str(position) for position in (~available).nonzero().flatten().tolist()]
    if not positions:
        return f"all {len(available)} outputs available"
    names = positions[0] if len(positions) == 1 else f"{', '.join(positions[:-1])} and {positions[-1]}"
    return f"output{'s' if len(positions) > 1 else ''} {names} of {len(available)} unavailable"


class PatternIndex(nn.Module):
    """Numbers the patterns of at most ``most`` unavailable outputs among ``n``, without a table of 2^n entries.

    Patterns with fewer erasures come first; those of e erasures at c_1 < ... < c_e are numbered by the combinatorial
    number system, sum_j C(c_j, j) (Knuth, The Art of Computer Programming 4A, 7.2.1.3).

    Args:
        n: outputs of a coding group.
        most: the most erasures that a numbered pattern has.
    """

    def __init__(self, n: int, most: int) -> None:
        super().__init__()
        counts = [math.comb(n, erased) for erased in range(most + 1)]
        self.num_patterns = sum(counts)
        starts = [sum(counts[:erased]) for erased in range(most + 1)]
        choose = [[math.comb(position, j) for j in range(most + 1)] for position in range(n)]
        self.register_buffer("starts", torch.tensor(starts), persistent=False)
        self.register_buffer("choose", torch.tensor(choose).view(n, most + 1), persistent=False)
        self.starts: Tensor
        self.choose: Tensor

    def forward(self, available: Tensor) -> Tensor:
        """Number patterns: bool (G, n) with at most ``most`` erasures each -> int64 (G,)."""
        erased = ~available
        order = erased.cumsum(1)
        positions = torch.arange(available.shape[1], device=available.device)
        terms = self.choose[positions, order] * erased
        return self.starts[order[:, -1]] + terms.sum(1)

    def patterns(self) -> Tensor:
        """Return all numbered patterns in the order of their numbers: bool (num_patterns, n)."""
        n, most = self.choose.shape[0], self.choose.shape[1] - 1
        rows = torch.cat([patterns(n, erased) for erased in range(most + 1)])
        return rows[self(rows).argsort()]
