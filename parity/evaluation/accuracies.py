"""What is lost when outputs are missing: A_a, A_d(e), reconstruction accuracy and A_o(f), exact over all patterns.

Every query is answered once; each pattern is decoded from the same answers, batch by batch, and only sums are kept.
Written for classification; for localisation, read the mean IoU wherever it says accuracy.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.data import GroupLoader
from parity.errors import ParityError
from parity.tasks import Task
from parity.training.metrics import MeanMeasures

MOST_OUTPUTS = 12
"""Up to this n, all 2^n patterns are gone through."""


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


@dataclass(frozen=True)
class CodeEvaluation:
    """Sums over groups for each erasure pattern; accuracies are made of them.

    ``patterns`` is bool (E, n): all 2^n of them up to n = 12, beyond it those of up to r erasures. ``decodable`` is
    bool (E,), ``rebuilt`` bool (E, k): which predictions the decoder has to rebuild. ``overall`` and ``reconstruction``
    are float64 (E, k, M): sums of the M ``measures`` of the decoder's answers, against true labels and against the base
    model. ``base`` and ``default`` are float64 (k, M): those of the base model's answers and of the default prediction.
    ``leftover`` queries filled no group.
    """

    k: int
    n: int
    groups: int
    leftover: int
    measures: tuple[str, ...]
    patterns: Tensor
    decodable: Tensor
    rebuilt: Tensor
    overall: Tensor
    reconstruction: Tensor
    base: Tensor
    default: Tensor
    most_erased: int

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
            erased: e, 1 to r.
            measure: one of ``measures``; by default the first, 'top1' or 'iou'.
            against: 'overall' (true labels) or 'reconstruction' (the base model).

        Raises:
            ParityError: some of these patterns cannot be rebuilt.
        """
        sums, hit = self._sums_and_hit(erased, measure, against)
        return float((sums.sum(1) / hit.sum(1)).mean() / self.groups)

    def degraded_at(self, erased: int, position: int, measure: str | None = None, against: str = "overall") -> float:
        """Return the same for the predictions rebuilt at one position, over the patterns that hit it."""
        sums, hit = self._sums_and_hit(erased, measure, against)
        return float(sums[:, position].sum() / hit[:, position].sum() / self.groups)

    def _sums_and_hit(self, erased: int, measure: str | None, against: str) -> tuple[Tensor, Tensor]:
        rows = ((~self.patterns).sum(1) == erased) & self.rebuilt.any(1)
        if not rows.any() or not self.decodable[rows].all():
            raise ParityError(f"this code cannot rebuild every pattern of {erased} unavailable outputs.")
        sums: Tensor = getattr(self, against)[rows]
        hit = self.rebuilt[rows].double()
        return sums[:, :, self.measures.index(measure or self.measures[0])] * hit, hit

    def overall_accuracy(self, f: float) -> float:
        """Return A_o(f), exact over all 2^n patterns.

        Raises:
            ParityError: n is above 12, or f is no probability.
        """
        if not 0 <= f <= 1:
            raise ParityError(f"f is a probability, from 0 to 1, not {f}.")
        if self.n > MOST_OUTPUTS:
            raise ParityError(f"A_o(f) is exact up to n = {MOST_OUTPUTS} outputs, and this code has n = {self.n}.")
        instead = torch.where(self.decodable[:, None], self.overall[:, :, 0], self.default[:, 0])
        right = torch.where(self.rebuilt, instead, self.base[:, 0])
        return float((erasures.probabilities(self.patterns, f) * right.mean(1)).sum() / self.groups)

    def summary(self, unavailable: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1)) -> dict[str, Any]:
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
        overall = {str(f): self.overall_accuracy(f) for f in unavailable} if self.n <= MOST_OUTPUTS else {}
        return {
            "k": self.k,
            "r": self.n - self.k,
            "groups": self.groups,
            "queries_left_over": self.leftover,
            "measures": list(self.measures),
            "A_a": self.a_a,
            "floor": self.floor,
            "A_d": degraded,
            "A_o": overall,
        }


@torch.no_grad()
def evaluate_code(model: CodedModel, loader: GroupLoader, task: Task, default: Tensor) -> CodeEvaluation:
    """Evaluate a coded model under every erasure pattern (beyond n = 12: of up to r erasures).

    Args:
        model: the coded model.
        loader: groups of its k.
        task: what predictions are measured by.
        default: (*P), what a user is told where nothing can be rebuilt.
    """
    model.eval()
    device, k, n = loader.device, model.k, model.n
    decoder, default = model.decoder, default.to(device)
    if n <= MOST_OUTPUTS:
        patterns = erasures.all_patterns(n).to(device)
    else:
        patterns = torch.cat([erasures.patterns(n, erased) for erased in range(model.r + 1)]).to(device)
    decodable, rebuilt = decoder.can_decode(patterns), decoder.rebuilt(patterns)
    decoded = (decodable & rebuilt.any(1)).nonzero().flatten().tolist()

    overall = torch.zeros(len(patterns), k, len(task.measures), dtype=torch.double, device=device)
    reconstruction = torch.zeros_like(overall)
    base, by_default = torch.zeros_like(overall[0]), torch.zeros_like(overall[0])
    groups = 0
    for burst in loader:
        for batch in burst:
            base_queries, parity_queries = model.encoder.dispatch(batch.queries)
            base_outputs, parity_outputs = model.base_outputs(base_queries), model.parity_outputs(parity_queries)
            predictions = base_outputs if base_queries is batch.queries else model.base_outputs(batch.queries)
            said = task.as_targets(predictions)
            groups += len(said)
            base += task.measure(predictions, batch.targets).sum(0)
            by_default += task.measure(default.expand_as(predictions), batch.targets).sum(0)
            for row in decoded:
                answer = decoder.decode(base_outputs, parity_outputs, patterns[row].expand(len(said), -1))
                overall[row] += task.measure(answer, batch.targets).sum(0)
                reconstruction[row] += task.measure(answer, said).sum(0)
    return CodeEvaluation(
        k=k,
        n=n,
        groups=groups,
        leftover=len(loader.sampler.rows) - groups * k,
        measures=task.measures,
        patterns=patterns.cpu(),
        decodable=decodable.cpu(),
        rebuilt=rebuilt.cpu(),
        overall=overall.cpu(),
        reconstruction=reconstruction.cpu(),
        base=base.cpu(),
        default=by_default.cpu(),
        most_erased=model.r,
    )
