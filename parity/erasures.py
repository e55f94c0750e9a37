"""Erasure patterns: which of the n outputs of a coding group did not arrive.

A pattern is a row of ``available`` (True = arrived): the m base outputs first, then the parity outputs.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from parity.errors import ParityError

MOST = 100
"""The most queries, and the most parity workers, of a code.

A decoder keeps a matrix (k, n) for each output that may be missing, 8 GB where k is 1,000.
"""

ENUMERATED = 5000
"""The most patterns that are all looked at because a code tolerates so many erasures; beyond that they are sampled."""


def patterns(n: int, erased: int) -> Tensor:
    """Return all patterns of exactly ``erased`` unavailable outputs among ``n``.

    Returns:
        bool (C(n, erased), n), in the lexicographic order of the erased positions.
    """
    available = torch.ones(math.comb(n, erased), n, dtype=torch.bool)
    for row, positions in enumerate(itertools.combinations(range(n), erased)):
        available[row, list(positions)] = False
    return available


class Strata:
    """Erasure patterns by how many workers fail: all of them where that is few, else a seeded sample.

    What holds on average when every worker is unavailable with probability f, independently, is the sum over s of
    C(w, s) f^s (1 - f)^(w - s) times the mean over the patterns in which s of the w workers fail. So one set of
    patterns serves every f, and workers that differ or fail together, exactly where every stratum holds all its
    patterns, as it does up to n = 12.

    Args:
        n: outputs of a coding group.
        always: strata of up to so many failures hold all their patterns, as long as those with no more failures are at
            most ``ENUMERATED`` in all; those of one failure hold all in any case.
        paired: outputs 2i and 2i + 1 come from one worker, and are unavailable together.
        most: patterns in a stratum that is sampled; strata with no more hold all.
        seed: of the sample.
    """

    def __init__(self, n: int, always: int = 0, paired: bool = False, most: int = 1000, seed: int = 0) -> None:
        self.workers = -(-n // 2) if paired else n
        generator = torch.Generator().manual_seed(seed)
        rows, self.complete = [], []
        sizes: list[int] = []
        for failed in range(self.workers + 1):
            total = math.comb(self.workers, failed)
            enumerated = failed <= min(always, 1) or sum(sizes) + total <= ENUMERATED
            self.complete.append(total <= most or (failed <= always and enumerated))
            if self.complete[-1]:
                rows.append(patterns(self.workers, failed))
            else:
                order = torch.rand(most, self.workers, generator=generator).argsort(1)
                rows.append(order >= failed)
            sizes.append(len(rows[-1]))
        arrived = torch.cat(rows)
        self._failed = ~arrived
        self.patterns = arrived.repeat_interleave(2, dim=1)[:, :n] if paired else arrived
        """bool (E, n), those with the fewest failures first."""
        self.sizes = sizes

    def weights(self, f: float, correlation: float = 0.0) -> Tensor:
        """Return by how much each pattern counts where every worker is unavailable with probability f.

        Correlated workers fail by Polya's urn: each that failed makes the others likelier to fail, as they are where
        they share what they run on. How many fail is beta-binomial; the binomial distribution where nothing correlates.

        Args:
            f: a probability.
            correlation: of whether one worker and whether another is unavailable, from 0 to 1.

        Returns:
            float64 (E,), which sum to 1.

        Raises:
            ParityError: ``f`` or ``correlation`` is not from 0 to 1.
        """
        _check("f is a probability,", [f])
        _check("the correlation is", [correlation])
        parts = []
        for failed, size in enumerate(self.sizes):
            weight = float(math.comb(self.workers, failed))
            for draw in range(self.workers):
                share, before = (f, draw) if draw < failed else (1.0 - f, draw - failed)
                if draw:
                    share = (share * (1.0 - correlation) + before * correlation) / (1.0 + (draw - 1) * correlation)
                weight *= share
            parts.append(torch.full((size,), weight / size, dtype=torch.float64))
        return torch.cat(parts)

    def weights_of(self, probabilities: Sequence[float]) -> Tensor:
        """Return by how much each pattern counts where workers are unavailable with probabilities of their own.

        Args:
            probabilities: of each worker, independent.

        Returns:
            float64 (E,), which sum to 1. In a stratum that is sampled patterns count in proportion to what they would.

        Raises:
            ParityError: there are not as many as workers, or one is not from 0 to 1.
        """
        if len(probabilities) != self.workers:
            raise ParityError(f"give {self.workers} probabilities, one for each worker, not {len(probabilities)}.")
        _check("each worker's probability is", probabilities)
        each = torch.tensor(probabilities, dtype=torch.float64)
        totals = torch.tensor([1.0], dtype=torch.float64)  # of 0, 1, ... failures among the workers so far
        for probability in each:
            zero = totals.new_zeros(1)
            totals = torch.cat([totals, zero]) * (1 - probability) + torch.cat([zero, totals]) * probability
        likely = torch.where(self._failed, each, 1 - each).prod(1).split(self.sizes)
        shares = [part / part.sum() if part.sum() else torch.full_like(part, 1 / len(part)) for part in likely]
        return torch.cat([total * share for total, share in zip(totals, shares, strict=True)])

    def mean(self, values: Tensor, weights: Tensor) -> tuple[float, float]:
        """Return the mean of values (E,), one for each pattern, where patterns count by so much, float64 (E,).

        Returns:
            The mean, and its standard error: 0 where every stratum is complete.
        """
        values, variance = values.double(), 0.0
        parts = zip(values.split(self.sizes), weights.split(self.sizes), self.complete, strict=True)
        for part, weight, complete in parts:
            if not complete and (total := weight.sum()):
                off = part - (weight * part).sum() / total
                variance += float((weight * off).square().sum()) * len(part) / (len(part) - 1)
        return float((values * weights).sum()), math.sqrt(variance)


def _check(what: str, values: Sequence[float]) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ParityError(f"{what} from 0 to 1, not {value}.")


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
