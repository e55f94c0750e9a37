"""Accuracies of a base model, and of a code under erasure patterns."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.metrics import MeanMeasures
from parity.tasks import Task

UNAVAILABLE = (0.0, 0.01, 0.05, 0.1)
"""f at which A_o(f) is told by default."""

# Groups that are decoded and measured at a time: small enough for any prediction, large enough for small networks.
_GROUPS_AT_ONCE = 1024

# Of the normal distribution: what lies within so many standard errors is 95 %.
_WITHIN = 1.96


@torch.no_grad()
def evaluate_base(network: nn.Module, loader: GroupLoader, task: Task) -> dict[str, Any]:
    """Evaluate a base model on every query of a loader.

    Returns:
        'queries', and the task's measures: 'top1', 'top2', ...
    """
    network.eval()
    mean = MeanMeasures(task, positions=1).to(loader.device)
    for _, queries, targets in loader.every_query():
        mean.update(network(queries).unsqueeze(1), targets.unsqueeze(1))
    return {"queries": int(mean.count), **{name: float(value) for name, value in mean.compute().items()}}


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval, of the normal distribution over coding groups."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CodeEvaluation:
    """Sums over groups for each erasure pattern; accuracies are made of them.

    ``patterns`` is bool (E, n): those of ``strata``, all 2^n of them up to n = 12. Where workers fail in pairs, so many
    as ``separate`` stand before these, which A_d is made of instead. ``rebuilt`` is bool (E, k): which
    predictions the decoder has to rebuild, ``rebuildable`` bool (E, k): which of them it can. ``overall`` and
    ``reconstruction`` are float64 (E, k, M): sums of the M ``measures`` of the decoder's answers, against true labels
    and against the base model; ``squared_error`` is float64 (E, k): of their mean squared distance from the base
    model's. ``base`` and ``default`` are float64 (k, M): the measures of the base model's answers and of the default
    prediction. ``squares`` are float64 (``most_erased`` + 1,) each: for e erasures the sum over groups of the squared
    mean of a group's first measure; in place of e = 0 the base model's; and in "A_o" for each f of ``unavailable`` that
    of what users get. ``leftover`` queries filled no group.
    """

    k: int
    n: int
    groups: int
    leftover: int
    measures: tuple[str, ...]
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
    unavailable: tuple[float, ...] = ()

    @property
    def a_a(self) -> float:
        """A_a of the base model, over the queries that are in groups."""
        return float(self.base[:, 0].mean() / self.groups)

    @property
    def floor(self) -> float:
        """Accuracy of always saying the default prediction: the most frequent class, or the mean box."""
        return float(self.default[:, 0].mean() / self.groups)

    def degraded(self, erased: int, measure: str | None = None, against: str = "overall") -> float:
        """Return A_d(e), or reconstruction accuracy, as DESIGN.md defines them.

        The mean over patterns of exactly ``erased`` unavailable outputs that hit at least one prediction, of the mean
        over the predictions that the decoder has to rebuild.

        Args:
            erased: e, 1 to ``most_erased``.
            measure: one of ``measures``; by default the first, 'top1' or 'iou'.
            against: 'overall' (true labels) or 'reconstruction' (the base model).

        Raises:
            ParityError: some of these patterns cannot be rebuilt.
        """
        rows, hit = self._rows_and_hit(erased)
        sums = getattr(self, against)[rows][:, :, self._column(measure)] * hit
        return float((sums.sum(1) / hit.sum(1)).mean() / self.groups)

    def degraded_at(self, erased: int, position: int, measure: str | None = None, against: str = "overall") -> float:
        """Return the same for the predictions rebuilt at one position, over the patterns that hit it."""
        rows, hit = self._rows_and_hit(erased)
        sums = getattr(self, against)[rows][:, :, self._column(measure)] * hit
        return float(sums[:, position].sum() / hit[:, position].sum() / self.groups)

    def can_miss(self, predictions: int) -> bool:
        """Say whether all patterns can be rebuilt in which so many predictions, and no parity output, are missing."""
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
        """Return A_d(e), or reconstruction accuracy, with its 95 % confidence interval."""
        return self._interval(self.degraded(erased, None, against), float(self.squares[against][erased]))

    def overall_interval(self, f: float) -> Interval:
        """Return A_o(f) with its 95 % confidence interval, for an f that was asked for when it was evaluated."""
        mean, error = self.overall_accuracy_with_error(f)
        return self._interval(mean, float(self.squares["A_o"][self.unavailable.index(f)]), error)

    def _interval(self, mean: float, squares: float, error: float = 0.0) -> Interval:
        variance = max(squares / self.groups - mean**2, 0.0)
        margin = _WITHIN * math.sqrt(variance / self.groups + error**2)
        return Interval(mean, max(mean - margin, 0.0), min(mean + margin, 1.0))

    def _column(self, measure: str | None) -> int:
        return 0 if measure is None else self.measures.index(measure)

    def _rows_and_hit(self, erased: int) -> tuple[Tensor, Tensor]:
        rows = _hit_by(self.patterns, self.rebuilt, erased, self.separate)
        if not 1 <= erased <= self.most_erased or not (self.rebuildable | ~self.rebuilt)[rows].all():
            raise ParityError(f"this code cannot rebuild every pattern of {erased} unavailable outputs.")
        return rows, self.rebuilt[rows].double()

    def overall_accuracy(self, f: float) -> float:
        """Return A_o(f); see ``overall_accuracy_with_error``."""
        return self.overall_accuracy_with_error(f)[0]

    def overall_accuracy_with_error(self, f: float) -> tuple[float, float]:
        """Return A_o(f) over the strata's patterns, and the standard error of having sampled them: 0 if they are all.

        Raises:
            ParityError: f is no probability.
        """
        if not 0 <= f <= 1:
            raise ParityError(f"f is a probability, from 0 to 1, not {f}.")
        instead = torch.where(self.rebuildable, self.overall[:, :, 0], self.default[:, 0])
        right = torch.where(self.rebuilt, instead, self.base[:, 0])[self.separate :]
        return self.strata.mean(right.mean(1) / self.groups, f)

    def summary(self, unavailable: Sequence[float] = UNAVAILABLE) -> dict[str, Any]:
        """Return all accuracies as plain values, ready for a table or a JSON file."""
        degraded = {}
        for erased in range(1, self.most_erased + 1):
            table: dict[str, Any] = {}
            for against in ("overall", "reconstruction"):
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
            "A_d": degraded,
            "A_o": {str(f): self.overall_accuracy(f) for f in unavailable},
        }


def _hit_by(patterns: Tensor, rebuilt: Tensor, erased: int, separate: int) -> Tensor:
    """Say which patterns have exactly so many unavailable outputs and something to rebuild: bool (E,)."""
    hit = ((~patterns).sum(1) == erased) & rebuilt.any(1)
    hit[separate or len(hit) :] = False
    return hit


class Observer(Protocol):
    """Sees what is rebuilt when one output is unavailable."""

    def update(self, rebuilt: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Take in (G, p, *P) twice, of the decoder and the base model, and true targets (G, p, ...)."""


@torch.no_grad()
def evaluate_code(
    model: CodedModel,
    loader: GroupLoader,
    task: Task,
    default: Tensor,
    paired: bool = False,
    observers: Sequence[Observer] = (),
    unavailable: Sequence[float] = (),
) -> CodeEvaluation:
    """Evaluate a coded model under every erasure pattern, or beyond n = 12 under a seeded sample.

    Patterns of as many erasures as the code tolerates are all there. Each worker answers every query once, whatever the
    number of patterns.

    Args:
        model: the coded model.
        loader: groups of its k.
        task: what predictions are measured by.
        default: (*P), what a user is told where nothing can be rebuilt.
        paired: workers fail in pairs, see ``erasures.Strata``.
        observers: shown what is rebuilt when one output is unavailable.
        unavailable: f for which ``overall_interval`` can be asked.
    """
    model.eval()
    device, k = loader.device, model.k
    decoder, default = model.decoder, default.to(device)
    strata = erasures.Strata(model.n, always=decoder.tolerance, paired=paired)
    separate = [erasures.patterns(model.n, erased) for erased in range(decoder.tolerance + 1)] if paired else []
    patterns = torch.cat([*separate, strata.patterns])
    on_device = patterns.to(device)
    rebuildable, rebuilt = decoder.rebuildable(on_device).cpu(), decoder.rebuilt(on_device).cpu()
    decoded = (rebuildable & rebuilt).any(1).nonzero().flatten().tolist()
    positions = [rows.nonzero().flatten().to(device) for rows in rebuildable & rebuilt]
    by_erasures = [
        _hit_by(patterns, rebuilt, erased, sum(map(len, separate))) for erased in range(decoder.tolerance + 1)
    ]
    degree = [next((e for e, hit in enumerate(by_erasures) if e and hit[row]), None) for row in range(len(patterns))]

    overall = torch.zeros(len(patterns), k, len(task.measures), dtype=torch.double, device=device)
    reconstruction, squared_error = torch.zeros_like(overall), torch.zeros_like(overall[:, :, 0])
    base, by_default = torch.zeros_like(overall[0]), torch.zeros_like(overall[0])
    squares = {name: overall.new_zeros(decoder.tolerance + 1) for name in ("overall", "reconstruction")}
    # What users get is in part what does not depend on decoding: the base model's answer, or the default prediction.
    weights = (
        torch.stack([strata.weights(f) for f in unavailable]) if unavailable else torch.zeros(0, len(strata.patterns))
    )
    weights = torch.cat([weights.new_zeros(len(weights), len(patterns) - weights.shape[1]), weights], dim=1).double()
    as_it_is = (weights @ (~rebuilt).double() / k).to(device)
    instead = (weights @ (rebuilt & ~rebuildable).double() / k).to(device)
    squares["A_o"] = overall.new_zeros(len(weights))
    groups = 0
    for base_outputs, parity_outputs, predictions, targets in _answers(model, loader):
        said = task.as_targets(predictions)
        groups += len(said)
        right = task.measure(predictions, targets).double()
        base += right.sum(0)
        squares["overall"][0] += right[..., 0].mean(1).square().sum()
        told_by_default = task.measure(default.expand_as(predictions), targets).double()
        by_default += told_by_default.sum(0)
        got = as_it_is @ right[..., 0].T + instead @ told_by_default[..., 0].T
        means = {name: overall.new_zeros(decoder.tolerance + 1, len(said)) for name in ("overall", "reconstruction")}
        for row in decoded:
            where, erased = positions[row], degree[row]
            answer = decoder.decode_under(base_outputs, parity_outputs, patterns[row])[:, where]
            told, true = predictions[:, where], targets[:, where]
            for name, sums, reference in (
                ("overall", overall, true),
                ("reconstruction", reconstruction, said[:, where]),
            ):
                measured = task.measure(answer, reference)
                sums[row, where] += measured.sum(0, dtype=torch.double)
                if erased is not None:
                    means[name][erased] += measured[..., 0].mean(1, dtype=torch.double) / by_erasures[erased].sum()
                if name == "overall":
                    got += (weights[:, row, None].to(device) / k) * measured[..., 0].sum(1, dtype=torch.double)
            if erased is not None:
                squared_error[row, where] += (answer - told).square().flatten(2).mean(2).sum(0, dtype=torch.double)
            if erased == 1:
                for observer in observers:
                    observer.update(answer, told, true)
        for name, mean in (*means.items(), ("A_o", got)):
            squares[name] += mean.square().sum(1)
    return CodeEvaluation(
        k=k,
        n=model.n,
        groups=groups,
        leftover=len(loader.sampler.rows) - groups * k,
        measures=task.measures,
        strata=strata,
        separate=sum(map(len, separate)),
        patterns=patterns,
        rebuildable=rebuildable,
        rebuilt=rebuilt,
        overall=overall.cpu(),
        reconstruction=reconstruction.cpu(),
        squared_error=squared_error.cpu(),
        base=base.cpu(),
        default=by_default.cpu(),
        squares={name: sums.cpu() for name, sums in squares.items()},
        most_erased=decoder.tolerance,
        unavailable=tuple(unavailable),
    )


def _answers(model: CodedModel, loader: GroupLoader) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield base and parity outputs, predictions and targets of many groups at a time."""
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    groups = 0
    for batch in loader:
        base_outputs, parity_outputs = model.outputs(batch.queries)
        systematic = model.encoder.systematic
        predictions = base_outputs[:, : model.k] if systematic else model.base_outputs(batch.queries)
        parts.append((base_outputs, parity_outputs, predictions, batch.targets))
        groups += len(batch.indices)
        if groups >= _GROUPS_AT_ONCE:
            yield _together(parts)
            parts, groups = [], 0
    if parts:
        yield _together(parts)


def _together(parts: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    base_outputs, parity_outputs, predictions, targets = map(torch.cat, zip(*parts, strict=True))
    return base_outputs, parity_outputs, predictions, targets
