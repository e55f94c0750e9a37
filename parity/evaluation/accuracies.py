"""Accuracies of a base model, and of a code under erasure patterns."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.coders import Decoder
from parity.data import GroupLoader
from parity.evaluation.code_evaluation import CodeEvaluation, hit_by
from parity.metrics import MeanMeasures
from parity.tasks import Task

# Groups that are decoded and measured at a time: small enough for any prediction, large enough for small networks.
_GROUPS_AT_ONCE = 1024

# Numbers that are decoded at a time, 16 MiB of them: of small groups, many patterns at once.
_NUMBERS_AT_ONCE = 1 << 22


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

    Patterns of as many erasures as the code tolerates are all there, up to ``erasures.ENUMERATED``; beyond that A_d(e)
    is of a seeded sample, too, and its interval has the error of having sampled. Each worker computes every output
    once, whatever the number of patterns.

    Args:
        model: the coded model.
        loader: groups of its k.
        task: what predictions are measured by.
        default: (*P), what a user gets where nothing can be rebuilt.
        paired: workers fail in pairs, see ``erasures.Strata``.
        observers: shown what is rebuilt when one output is unavailable.
        unavailable: f for which ``overall_interval`` can be asked.
    """
    model.eval()
    patterns = _Patterns(model.decoder, paired, loader.device)
    sums = _Sums(model.decoder, patterns, task, default.to(loader.device), observers, unavailable)
    for outputs in _outputs(model, loader):
        sums.update(outputs)
    return sums.result(queries=len(loader.sampler.rows))


class _Outputs(NamedTuple):
    """What workers put out for G groups: base (G, m, *P), parity (G, n - m, *P'), and beside it predictions (G, k, *P)
    of the base model and true targets (G, k, ...)."""

    base: Tensor
    parity: Tensor
    predictions: Tensor
    targets: Tensor


def _outputs(model: CodedModel, loader: GroupLoader) -> Iterator[_Outputs]:
    """Yield the outputs of many groups at a time."""
    parts: list[_Outputs] = []
    groups = 0
    for batch in loader.batches():
        base, parity = model.outputs(batch.queries)
        parts.append(_Outputs(base, parity, model.base_predictions(batch.queries, base), batch.targets))
        groups += len(batch.indices)
        if groups >= _GROUPS_AT_ONCE:
            yield _Outputs(*map(torch.cat, zip(*parts, strict=True)))
            parts, groups = [], 0
    if parts:
        yield _Outputs(*map(torch.cat, zip(*parts, strict=True)))


class _Patterns:
    """The erasure patterns that a code is evaluated under, and what has to be done under each; on the CPU.

    Attributes:
        strata: of the patterns that A_o is made of.
        separate: how many stand before them: where workers fail in pairs, those that A_d is made of.
        available: bool (E, n), all of them.
        rebuildable, rebuilt, counted: bool (E, k), the predictions that the decoder can rebuild, that it has to, both.
        decoded: int64, the indices of patterns under which anything is rebuilt.
        degree: int64 (E,), e where a pattern is one of those that A_d(e) is made of, else 0.
        per_degree: int64 (most + 1,), how many of these there are for each e.
    """

    def __init__(self, decoder: Decoder, paired: bool, device: torch.device) -> None:
        most, n = decoder.tolerance, decoder.n
        self.strata = erasures.Strata(n, always=most, paired=paired)
        single = erasures.Strata(n, always=most)
        self.separate = sum(single.sizes[: most + 1]) if paired else 0
        self.available = torch.cat([single.patterns[: self.separate], self.strata.patterns])
        on_device = self.available.to(device)
        self.rebuildable, self.rebuilt = decoder.rebuildable(on_device).cpu(), decoder.rebuilt(on_device).cpu()
        self.counted = self.rebuildable & self.rebuilt
        self.decoded = self.counted.any(1).nonzero().flatten()
        hit = [hit_by(self.available, self.rebuilt, erased, self.separate) for erased in range(most + 1)]
        self.degree = torch.stack([erased * rows for erased, rows in enumerate(hit)]).sum(0)
        self.per_degree = torch.stack(hit).sum(1)

    def weights(self, unavailable: Sequence[float]) -> Tensor:
        """Return by how much each pattern counts in A_o(f): float64 (F, E)."""
        weights = torch.zeros(len(unavailable), len(self.available), dtype=torch.double)
        for row, f in zip(weights, unavailable, strict=True):
            row[self.separate :] = self.strata.weights(f)
        return weights


class _Sums:
    """Running sums over groups, on the device; see ``CodeEvaluation`` for what they are of."""

    def __init__(
        self,
        decoder: Decoder,
        patterns: _Patterns,
        task: Task,
        default: Tensor,
        observers: Sequence[Observer],
        unavailable: Sequence[float],
    ) -> None:
        self.decoder, self.patterns, self.task = decoder, patterns, task
        self.default, self.observers, self.unavailable = default, observers, tuple(unavailable)
        zeros = torch.zeros(len(patterns.available), decoder.k, task.statistics, dtype=torch.double)
        self.rebuilt = {name: zeros.to(default.device, copy=True) for name in ("overall", "reconstruction")}
        self.squared_error = self.rebuilt["overall"].new_zeros(zeros.shape[:2])
        self.base, self.by_default = (self.squared_error.new_zeros(zeros.shape[1:]) for _ in range(2))
        by_degree = self.squared_error.new_zeros(decoder.tolerance + 1)
        self.squares = {name: by_degree.clone() for name in self.rebuilt}
        self.squares["A_o"] = by_degree.new_zeros(len(unavailable))
        self.groups = 0
        self.base_by_group: list[Tensor] = []
        self.degraded_by_group: list[Tensor] = []
        # What users get is in part what does not depend on decoding: the base model's prediction, or the default one.
        weights, lost = patterns.weights(unavailable), patterns.rebuilt & ~patterns.rebuildable
        self.weights = (weights / decoder.k).to(default.device)
        self.as_it_is = (weights @ (~patterns.rebuilt).double() / decoder.k).to(default.device)
        self.instead = (weights @ lost.double() / decoder.k).to(default.device)

    def update(self, outputs: _Outputs) -> None:
        """Take in G groups."""
        means = self._without_decoding(outputs)
        most = max(1, _NUMBERS_AT_ONCE // max(1, outputs.base.numel() + outputs.parity.numel()))
        for rows in self.patterns.decoded.split(most):
            self._rebuild(rows, outputs, means)
        for name, mean in means.items():
            self.squares[name] += mean.square().sum(1)
        self.degraded_by_group.append(means["overall"])

    def _without_decoding(self, outputs: _Outputs) -> dict[str, Tensor]:
        """Count the base model's and the default predictions.

        Returns:
            What each group's means begin with: those of rebuilt predictions, (e, G), at zero, and A_o, (F, G).
        """
        right = self.task.measure(outputs.predictions, outputs.targets).double()
        by_default = self.task.measure(self.default.expand_as(outputs.predictions), outputs.targets).double()
        self.groups += len(right)
        self.base += right.sum(0)
        self.by_default += by_default.sum(0)
        of_groups = right[..., 0].mean(1)
        self.base_by_group.append(of_groups)
        self.squares["overall"][0] += of_groups.square().sum()
        means = {name: right.new_zeros(self.decoder.tolerance + 1, len(right)) for name in self.rebuilt}
        means["A_o"] = self.as_it_is @ right[..., 0].T + self.instead @ by_default[..., 0].T
        return means

    def _rebuild(self, rows: Tensor, outputs: _Outputs, means: dict[str, Tensor]) -> None:
        """Decode under some patterns, int64 (E,), and add what is rebuilt to the sums and to the groups' ``means``."""
        rebuilt = self.decoder.decode_patterns(outputs.base, outputs.parity, self.patterns.available[rows])
        degree, on_device = self.patterns.degree[rows], rows.to(rebuilt.device, non_blocking=True)
        per_pattern = self.patterns.counted[rows].sum(1).tolist()
        references = {"overall": outputs.targets, "reconstruction": self.task.as_targets(outputs.predictions)}
        for name, reference in references.items():
            measured = self._measured(rebuilt, reference, self.patterns.counted[rows])
            self.rebuilt[name][on_device] += measured.sum(2)
            first = measured[..., 0].sum(1)  # (E, G)
            for index in degree.nonzero().flatten().tolist():
                erased = int(degree[index])
                means[name][erased] += first[index] / per_pattern[index] / self.patterns.per_degree[erased]
            if name == "overall" and self.unavailable:
                for weights, sums in zip(self.weights[:, on_device].T, first, strict=True):
                    means["A_o"] += weights[:, None] * sums
        for index in degree.nonzero().flatten().tolist():
            self._compare(rows[index], int(degree[index]), rebuilt[index], outputs)

    def _measured(self, rebuilt: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Measure rebuilt (E, G, k, *P) where ``counted`` (E, k): float64 (E, k, G, S), zeros elsewhere."""
        pattern, position = counted.nonzero().to(rebuilt.device, non_blocking=True).unbind(1)
        measured = self.base.new_zeros(*counted.shape, len(targets), self.task.statistics)
        measured[pattern, position] = self.task.measure(
            rebuilt[pattern, :, position], targets[:, position].transpose(0, 1)
        ).double()
        return measured

    def _compare(self, row: Tensor, erased: int, rebuilt: Tensor, outputs: _Outputs) -> None:
        """Compare what is rebuilt under one pattern of A_d(e), (G, k, *P), with the base model's predictions."""
        where = self.patterns.counted[row].nonzero().flatten().to(rebuilt.device, non_blocking=True)
        rebuilt, predictions, targets = rebuilt[:, where], outputs.predictions[:, where], outputs.targets[:, where]
        errors = (rebuilt - predictions).square().flatten(2).mean(2).sum(0, dtype=torch.double)
        self.squared_error[int(row), where] += errors
        if erased == 1:
            for observer in self.observers:
                observer.update(rebuilt, predictions, targets)

    def result(self, queries: int) -> CodeEvaluation:
        """Return what was summed up over groups of so many queries."""
        patterns, decoder = self.patterns, self.decoder
        return CodeEvaluation(
            k=decoder.k,
            n=decoder.n,
            groups=self.groups,
            leftover=queries - self.groups * decoder.k,
            task=self.task,
            strata=patterns.strata,
            separate=patterns.separate,
            patterns=patterns.available,
            rebuildable=patterns.rebuildable,
            rebuilt=patterns.rebuilt,
            overall=self.rebuilt["overall"].cpu(),
            reconstruction=self.rebuilt["reconstruction"].cpu(),
            squared_error=self.squared_error.cpu(),
            base=self.base.cpu(),
            default=self.by_default.cpu(),
            squares={name: sums.cpu() for name, sums in self.squares.items()},
            most_erased=decoder.tolerance,
            base_by_group=torch.cat(self.base_by_group).cpu(),
            degraded_by_group=torch.cat(self.degraded_by_group, dim=1).cpu(),
            unavailable=self.unavailable,
        )
