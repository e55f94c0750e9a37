"""What is lost when outputs are missing: A_a, A_d(e), reconstruction accuracy and A_o(f), exact over all patterns.

Every query is answered once; each pattern is decoded from the same answers, batch by batch, and only counts are kept.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from parity import erasures
from parity.coded_model import CodedModel
from parity.data import TensorLoader
from parity.errors import ParityError
from parity.training.metrics import RankHistogram, ranks, top_accuracies

MOST_OUTPUTS = 12
"""Up to this n, all 2^n patterns are gone through."""


@torch.no_grad()
def count_correct(network: nn.Module, loader: TensorLoader) -> tuple[int, int]:
    """Count the queries that a network classifies correctly, over every query of a loader: (correct, all)."""
    network.eval()
    correct = torch.zeros((), dtype=torch.long, device=loader.queries.device)
    total = 0
    for rows, queries in loader.every_query():
        correct += (ranks(network(queries), loader.targets[rows]) == 0).sum()
        total += len(rows)
    return int(correct), total


@torch.no_grad()
def evaluate_base(network: nn.Module, loader: TensorLoader, num_classes: int) -> dict[str, Any]:
    """Evaluate a base model on every query of a loader.

    Returns:
        'correct', 'queries', and accuracies 'top1', 'top2', ...
    """
    network.eval()
    histogram = RankHistogram(num_classes, positions=1).to(loader.queries.device)
    for rows, queries in loader.every_query():
        histogram.update(network(queries).unsqueeze(1), loader.targets[rows].unsqueeze(1))
    counts = histogram.compute()
    accuracies = {name: float(value) for name, value in top_accuracies(counts, histogram.top_k).items()}
    return {"correct": int(counts[0, 0]), "queries": int(counts.sum()), **accuracies}


@dataclass(frozen=True)
class CodeEvaluation:
    """Counts over groups for each erasure pattern; accuracies are made of them.

    ``patterns`` is bool (E, n): all 2^n of them up to n = 12, beyond it those of up to r erasures. ``decodable`` is
    bool (E,), ``rebuilt`` bool (E, k): which predictions the decoder has to rebuild. ``overall`` and ``reconstruction``
    are int64 (E, k, bins): at which rank the true class, or the base model's, came in the decoder's answers. ``base``
    is int64 (k, bins), ``default`` int64 (k,): how often the default prediction would have been right. ``leftover``
    queries filled no group.
    """

    k: int
    n: int
    groups: int
    leftover: int
    top_k: tuple[int, ...]
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
        return float(self.base[:, 0].sum().double() / self.base.sum())

    def degraded(self, erased: int, top: int = 1, against: str = "overall") -> float:
        """Return A_d(e), or reconstruction accuracy, as DESIGN.md defines them.

        The mean over patterns of exactly ``erased`` unavailable outputs that hit at least one prediction, of the mean
        over the predictions that the decoder has to rebuild.

        Args:
            erased: e, 1 to r.
            top: counted as right among so many first classes.
            against: 'overall' (true labels) or 'reconstruction' (the base model).

        Raises:
            ParityError: some of these patterns cannot be rebuilt.
        """
        within, hit = self._within_and_hit(erased, top, against)
        return float((within.sum(1) / hit.sum(1)).mean() / self.groups)

    def degraded_at(self, erased: int, position: int, top: int = 1, against: str = "overall") -> float:
        """Return the same for the predictions rebuilt at one position, over the patterns that hit it."""
        within, hit = self._within_and_hit(erased, top, against)
        return float(within[:, position].sum() / hit[:, position].sum() / self.groups)

    def _within_and_hit(self, erased: int, top: int, against: str) -> tuple[Tensor, Tensor]:
        rows = ((~self.patterns).sum(1) == erased) & self.rebuilt.any(1)
        if not rows.any() or not self.decodable[rows].all():
            raise ParityError(f"this code cannot rebuild every pattern of {erased} unavailable outputs.")
        counts: Tensor = getattr(self, against)[rows]
        hit = self.rebuilt[rows].double()
        return counts[:, :, :top].sum(2) * hit, hit

    def overall_accuracy(self, f: float) -> float:
        """Return A_o(f), exact over all 2^n patterns.

        Raises:
            ParityError: n is above 12, or f is no probability.
        """
        if not 0 <= f <= 1:
            raise ParityError(f"f is a probability, from 0 to 1, not {f}.")
        if self.n > MOST_OUTPUTS:
            raise ParityError(f"A_o(f) is exact up to n = {MOST_OUTPUTS} outputs, and this code has n = {self.n}.")
        instead = torch.where(self.decodable[:, None], self.overall[:, :, 0], self.default)
        right = torch.where(self.rebuilt, instead, self.base[:, 0]).double()
        return float((erasures.probabilities(self.patterns, f) * right.mean(1)).sum() / self.groups)

    def summary(self, unavailable: tuple[float, ...] = (0.0, 0.01, 0.05, 0.1)) -> dict[str, Any]:
        """Return all accuracies as plain values, ready for a table or a JSON file."""
        degraded = {}
        for erased in range(1, self.most_erased + 1):
            table: dict[str, Any] = {}
            for against in ("overall", "reconstruction"):
                for top in self.top_k:
                    table[f"{against}_top{top}"] = self.degraded(erased, top, against)
                table[f"{against}_top1_by_position"] = [
                    self.degraded_at(erased, position, 1, against) for position in range(self.k)
                ]
            degraded[str(erased)] = table
        overall = {str(f): self.overall_accuracy(f) for f in unavailable} if self.n <= MOST_OUTPUTS else {}
        return {
            "k": self.k,
            "r": self.n - self.k,
            "groups": self.groups,
            "queries_left_over": self.leftover,
            "A_a": self.a_a,
            "A_d": degraded,
            "A_o": overall,
        }


@torch.no_grad()
def evaluate_code(model: CodedModel, loader: TensorLoader, num_classes: int, default_class: int) -> CodeEvaluation:
    """Evaluate a coded model under every erasure pattern (beyond n = 12: of up to r erasures).

    Args:
        model: the coded model.
        loader: groups of its k.
        num_classes: C.
        default_class: what a user is told where nothing can be rebuilt.
    """
    model.eval()
    device, k, n = loader.queries.device, model.k, model.n
    decoder = model.decoder
    if n <= MOST_OUTPUTS:
        patterns = erasures.all_patterns(n).to(device)
    else:
        patterns = torch.cat([erasures.patterns(n, erased) for erased in range(model.r + 1)]).to(device)
    decodable, rebuilt = decoder.can_decode(patterns), decoder.rebuilt(patterns)
    decoded = (decodable & rebuilt.any(1)).nonzero().flatten().tolist()

    histogram = RankHistogram(num_classes, k).to(device)
    overall = torch.zeros(len(patterns), k * histogram.bins, dtype=torch.long, device=device)
    reconstruction = torch.zeros_like(overall)
    default = torch.zeros(k, dtype=torch.long, device=device)
    cells = histogram.bins * torch.arange(k, device=device)
    groups = 0
    for burst in loader:
        for batch in burst:
            base_queries, parity_queries = model.encoder.dispatch(batch.queries)
            base_outputs, parity_outputs = model.base_outputs(base_queries), model.parity_outputs(parity_queries)
            predictions = base_outputs if base_queries is batch.queries else model.base_outputs(batch.queries)
            said = predictions.argmax(-1)
            groups += len(said)
            histogram.update(predictions, batch.targets)
            default += (batch.targets == default_class).sum(0)
            for row in decoded:
                answer = decoder.decode(base_outputs, parity_outputs, patterns[row].expand(len(said), -1))
                for counts, labels in ((overall, batch.targets), (reconstruction, said)):
                    cell = (ranks(answer, labels).clamp_(max=histogram.bins - 1) + cells).flatten()
                    counts[row].scatter_add_(0, cell, torch.ones_like(cell))
    shape = (len(patterns), k, histogram.bins)
    return CodeEvaluation(
        k=k,
        n=n,
        groups=groups,
        leftover=len(loader.sampler.rows) - groups * k,
        top_k=histogram.top_k,
        patterns=patterns.cpu(),
        decodable=decodable.cpu(),
        rebuilt=rebuilt.cpu(),
        overall=overall.view(shape).cpu(),
        reconstruction=reconstruction.view(shape).cpu(),
        base=histogram.compute().cpu(),
        default=default.cpu(),
        most_erased=model.r,
    )
