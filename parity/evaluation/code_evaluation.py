"""What a code reaches: accuracies over erasure patterns, made of sums over coding groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity import erasures
from parity.errors import ParityError
from parity.evaluation.intervals import WITHIN, Interval, paired_interval
from parity.tasks import Task

UNAVAILABLE = (0.0, 0.01, 0.05, 0.1)
"""f at which A_o(f) is reported by default."""

SLOW = 10
"""Where one worker is slow, it is unavailable so many times as often as the others."""

CORRELATION = 0.2
"""Where workers fail together: of whether one worker and whether another is unavailable."""


@dataclass(frozen=True)
class CodeEvaluation:
    """Sums over groups for each erasure pattern; accuracies are made of them.

    ``patterns`` is bool (E, n): those of ``strata``, all 2^n of them up to n = 12. Where workers fail in pairs, so many
    as ``separate`` stand before these, which A_d is made of instead; where A_d(e) would be made of too many, it is made
    of a sample of them, see ``erasures.Strata``. ``rebuilt`` is bool (E, k): which
    predictions the decoder has to rebuild, ``rebuildable`` bool (E, k): which of them it can. ``overall`` and
    ``reconstruction`` are float64 (E, k, S): sums of the S statistics of the ``task`` of what is rebuilt, against true
    labels and against the base model; ``squared_error`` is float64 (E, k): of their mean squared distance from the base
    model's. ``base`` and ``default`` are float64 (k, S): those of the base model's and of the default prediction.
    ``squares`` are float64 (``most_erased`` + 1,) each: for e erasures the sum over groups of the squared mean of a
    group's first measure; in place of e = 0 the base model's; and in "A_o" for each f of ``unavailable`` that of what
    users get. ``leftover`` queries filled no group.
    """

    k: int
    n: int
    groups: int
    leftover: int
    task: Task
    strata: erasures.Strata
    separate: int
    patterns: Tensor
    rebuildable: Tensor
    rebuilt: Tensor
    overall: Tensor
    reconstruction: Tensor
    squared_error: Tensor
    base: Tensor
    default: Tensor
    squares: dict[str, Tensor]
    most_erased: int
    base_by_group: Tensor
    degraded_by_group: Tensor
    unavailable: tuple[float, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the task's measures."""
        return self.task.measures

    @property
    def a_a(self) -> float:
        """A_a of the base model, over the queries that are in groups."""
        return float(self.base[:, 0].mean() / self.groups)

    @property
    def floor(self) -> float:
        """Accuracy of always giving the default prediction: the most frequent class, or the mean target."""
        return float(self.default[:, 0].mean() / self.groups)

    def degraded(self, erased: int, measure: str | None = None, against: str = "overall") -> float:
        """Return A_d(e), or reconstruction accuracy, as docs/concepts.md defines them.

        The mean over patterns of exactly ``erased`` unavailable outputs that hit at least one prediction, of the mean
        over the predictions that the decoder has to rebuild. Where the patterns are too many, it is over a sample of
        them.

        Args:
            erased: e, 1 to ``most_erased``.
            measure: one of ``measures``; by default the first, e.g. 'top1'.
            against: 'overall' (true labels) or 'reconstruction' (the base model).

        Raises:
            ParityError: some of these patterns cannot be rebuilt.
        """
        rows, hit = self._rows_and_hit(erased)
        sums = getattr(self, against)[rows] * hit[..., None]
        return self._measured((sums.sum(1) / hit.sum(1, keepdim=True)).mean(0) / self.groups, measure)

    def degraded_at(self, erased: int, position: int, measure: str | None = None, against: str = "overall") -> float:
        """Return the same for the predictions rebuilt at one position, over the patterns that hit it."""
        rows, hit = self._rows_and_hit(erased)
        sums = getattr(self, against)[rows, position] * hit[:, position, None]
        return self._measured(sums.sum(0) / hit[:, position].sum() / self.groups, measure)

    def can_miss(self, predictions: int) -> bool:
        """Return whether all patterns with so many predictions, and no parity output, missing can be rebuilt."""
        return bool(self.rebuildable[self._missing_rows(predictions)].all())

    def missing(self, predictions: int, against: str = "overall") -> float:
        """Return the accuracy of what is rebuilt where so many of the k predictions, and no parity output, are missing.

        The mean over all these patterns, of a systematic code with at most 12 outputs; for one missing prediction it is
        A_d(1). A code that can rebuild any number of predictions is measured by it beyond A_d(r).

        Args:
            predictions: how many are missing, 1 to k.
            against: 'overall' (true labels) or 'reconstruction' (the base model).

        Raises:
            ParityError: some of these patterns cannot be rebuilt.
        """
        if not self.can_miss(predictions):
            raise ParityError(f"this code cannot rebuild {predictions} of {self.k} predictions under every pattern.")
        rows = self._missing_rows(predictions)
        sums = getattr(self, against)[rows][:, :, 0] * self.rebuilt[rows]
        return float(sums.sum(1).mean() / predictions / self.groups)

    def _missing_rows(self, predictions: int) -> list[int]:
        wanted = ((~self.patterns[:, : self.k]).sum(1) == predictions) & self.patterns[:, self.k :].all(1)
        rows = {tuple(self.patterns[row].tolist()): row for row in wanted.nonzero().flatten().tolist()}
        return list(rows.values())  # each pattern once: where workers fail in pairs, some come twice

    def mean_squared_error(self, erased: int = 1) -> float:
        """Return the mean squared error of reconstructions, over P and over what A_d(e) is averaged over."""
        rows, hit = self._rows_and_hit(erased)
        return float(((self.squared_error[rows] * hit).sum(1) / hit.sum(1)).mean() / self.groups)

    def base_interval(self) -> Interval:
        """Return A_a with its 95 % confidence interval."""
        return self._interval(self.a_a, float(self.squares["overall"][0]))

    def degraded_interval(self, erased: int, against: str = "overall") -> Interval:
        """Return A_d(e), or reconstruction accuracy, with its 95 % confidence interval.

        The error of having sampled patterns is in it, where they are too many to look at all.
        """
        error = self._sampling_error(erased, against)
        return self._interval(self.degraded(erased, None, against), float(self.squares[against][erased]), error)

    def loss_interval(self, erased: int = 1) -> Interval:
        """Return A_a - A_d(e), what is lost where e outputs are unavailable, paired over groups: see ``intervals``.

        The error of having sampled patterns is in it, where they are too many to look at all.
        """
        interval = paired_interval(self.base_by_group, self.degraded_by_group[erased])
        if not (error := WITHIN * self._sampling_error(erased, "overall")):
            return interval
        value, low, high = interval
        return Interval(value, value - math.hypot(value - low, error), value + math.hypot(high - value, error))

    def _sampling_error(self, erased: int, against: str) -> float:
        """Return the standard error of A_d(e) that comes of not having looked at all patterns; 0 where it has."""
        rows, hit = self._rows_and_hit(erased)
        looked_at = (~self.patterns[: self.separate or None]).sum(1) == erased
        if int(looked_at.sum()) == math.comb(self.n, erased):
            return 0.0
        sums = getattr(self, against)[rows][..., 0] * hit
        means = sums.sum(1) / hit.sum(1) / self.groups
        return float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else 0.0

    def overall_interval(self, f: float) -> Interval:
        """Return A_o(f) with its 95 % confidence interval, for an f that was asked for when it was evaluated."""
        mean, error = self.overall_accuracy_with_error(f)
        return self._interval(mean, float(self.squares["A_o"][self.unavailable.index(f)]), error)

    def _interval(self, mean: float, squares: float, error: float = 0.0) -> Interval:
        variance = max(squares / self.groups - mean**2, 0.0)
        margin = WITHIN * math.sqrt(variance / self.groups + error**2)
        return Interval(mean, max(mean - margin, self.task.lowest), min(mean + margin, 1.0))

    def _measured(self, means: Tensor, measure: str | None) -> float:
        """Return a measure, by default the first, from the means of statistics (S,)."""
        column = 0 if measure is None else self.measures.index(measure)
        return float(self.task.summarise(means)[column])

    def _rows_and_hit(self, erased: int) -> tuple[Tensor, Tensor]:
        rows = hit_by(self.patterns, self.rebuilt, erased, self.separate)
        if not 1 <= erased <= self.most_erased or not (self.rebuildable | ~self.rebuilt)[rows].all():
            raise ParityError(f"this code cannot rebuild every pattern of {erased} unavailable outputs.")
        return rows, self.rebuilt[rows].double()

    def overall_accuracy(self, f: float) -> float:
        """Return A_o(f); see ``overall_accuracy_with_error``."""
        return self.overall_accuracy_with_error(f)[0]

    def overall_accuracy_with_error(self, f: float) -> tuple[float, float]:
        """Return A_o(f) over the strata's patterns, and the standard error of having sampled them: 0 if they are all.

        Raises:
            ParityError: f is not a probability.
        """
        return self._overall(self.strata.weights(f))

    def overall_accuracy_together(self, f: float, correlation: float) -> float:
        """Return A_o(f) where workers tend to fail together; see ``Strata.weights``."""
        return self._overall(self.strata.weights(f, correlation))[0]

    def overall_accuracy_of(self, probabilities: Sequence[float]) -> float:
        """Return A_o where workers, independent, are unavailable with probabilities of their own."""
        return self._overall(self.strata.weights_of(probabilities))[0]

    def overall_accuracy_beside_a_slow_worker(self, f: float, times: float) -> float:
        """Return A_o(f) where one worker is unavailable so many times as often, mean over which one it is."""
        workers, slow = self.strata.workers, min(times * f, 1.0)
        each = [[slow if worker == which else f for worker in range(workers)] for which in range(workers)]
        return sum(map(self.overall_accuracy_of, each)) / workers

    def _overall(self, weights: Tensor) -> tuple[float, float]:
        instead = torch.where(self.rebuildable, self.overall[:, :, 0], self.default[:, 0])
        right = torch.where(self.rebuilt, instead, self.base[:, 0])[self.separate :]
        return self.strata.mean(right.mean(1) / self.groups, weights)

    def summary(self, unavailable: Sequence[float] = UNAVAILABLE) -> dict[str, Any]:
        """Return all accuracies as plain values, ready for a table or a JSON file."""
        degraded = {}
        for erased in range(1, self.most_erased + 1):
            table: dict[str, Any] = {}
            for against in ("overall", "reconstruction"):
                table[f"{against}_interval"] = self.degraded_interval(erased, against)._asdict()
                for measure in self.measures:
                    table[f"{against}_{measure}"] = self.degraded(erased, measure, against)
                table[f"{against}_{self.measures[0]}_by_position"] = [
                    self.degraded_at(erased, position, None, against) for position in range(self.k)
                ]
            degraded[str(erased)] = table
        return {
            "k": self.k,
            "r": self.n - self.k,
            "groups": self.groups,
            "queries_left_over": self.leftover,
            "measures": list(self.measures),
            "A_a": self.a_a,
            "floor": self.floor,
            "A_a_interval": self.base_interval()._asdict(),
            "loss": {str(erased): self.loss_interval(erased)._asdict() for erased in range(1, self.most_erased + 1)},
            "A_d": degraded,
            "A_o": {str(f): self.overall_accuracy(f) for f in unavailable},
        }


def hit_by(patterns: Tensor, rebuilt: Tensor, erased: int, separate: int) -> Tensor:
    """Return which patterns have exactly so many unavailable outputs and something to rebuild: bool (E,)."""
    hit = ((~patterns).sum(1) == erased) & rebuilt.any(1)
    hit[separate or len(hit) :] = False
    return hit
