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
        correct += (network(queries).argmax(-1) == loader.targets[rows]).sum()
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
    """Counts over groups, for each decodable pattern that rebuilds something; accuracies are made of them.

    ``patterns`` is bool (E, n); ``overall`` and ``reconstruction`` are int64 (E, k, bins): at which rank the true
    class, or the base model's, came in what was rebuilt at each position. ``rebuilt`` is bool (E, k). ``base`` is int64
    (k, bins), ``default`` int64 (k,): how often the default prediction would have been right. ``leftover`` queries
    filled no group.
    """

    k: int
    n: int
    groups: int
    leftover: int
    top_k: tuple[int, ...]
    patterns: Tensor
    rebuilt: Tensor
    overall: Tensor
    reconstruction: Tensor
    base: Tensor
    default: Tensor
    most_erased: int

    @property
    def a_a(self) -> float:
        """A_a of the base model, over the queries that are in groups."""
        return float(self.base[:, 0].sum() / self.base.sum())

    def degraded(self, erased: int, top: int = 1, against: str = "overall") -> float:
        """Return A_d(e), or reconstruction accuracy, as DESIGN.md defines them.

        The mean over patterns of exactly ``erased`` unavailable outputs that hit at least one prediction, of the mean
        over the predictions that the decoder has to rebuild.

        Args:
            erased: e, 1 to r.
            top: counted as right among so many first classes.
            against: 'overall' (true labels) or 'reconstruction' (the base model).
        """
        within = self._within(erased, top, against)
        return float((within.sum(1) / self._hit(erased).sum(1)).mean() / self.groups)

    def degraded_at(self, erased: int, position: int, top: int = 1, against: str = "overall") -> float:
        """Return the same for the predictions rebuilt at one position, over the patterns that hit it."""
        within, hit = self._within(erased, top, against)[:, position], self._hit(erased)[:, position]
        return float(within.sum() / hit.sum() / self.groups)

    def _of(self, erased: int) -> Tensor:
        return (~self.patterns).sum(1) == erased

    def _hit(self, erased: int) -> Tensor:
        return self.rebuilt[self._of(erased)].double()

    def _within(self, erased: int, top: int, against: str) -> Tensor:
        counts: Tensor = getattr(self, against)[self._of(erased)]
        return counts[:, :, :top].sum(2) * self._hit(erased)

    def overall_accuracy(self, f: float) -> float:
        """Return A_o(f), exact over all 2^n patterns.

        Raises:
            ParityError: n is above 12, or f is no probability.
        """
        if not 0 <= f <= 1:
            raise ParityError(f"f is a probability, from 0 to 1, not {f}.")
        if self.n > MOST_OUTPUTS:
            raise ParityError(f"A_o(f) is exact up to n = {MOST_OUTPUTS} outputs, and this code has n = {self.n}.")
        every = erasures.all_patterns(self.n)
        # Available: as it is. Not available and not decodable: the default. What was rebuilt replaces that.
        right = torch.where(every[:, : self.k], self.base[:, 0].double(), self.default.double())
        weights = 1 << torch.arange(self.n)
        row_of = {code: row for row, code in enumerate((every * weights).sum(1).tolist())}
        rows = [row_of[code] for code in (self.patterns * weights).sum(1).tolist()]
        right[rows] = torch.where(self.rebuilt, self.overall[:, :, 0].double(), right[rows])
        return float((erasures.probabilities(every, f) * right.mean(1)).sum() / self.groups)

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
    """Evaluate a coded model under every pattern that its decoder can rebuild (beyond n = 12: of up to r erasures).

    Args:
        model: the coded model.
        loader: groups of its k.
        num_classes: C.
        default_class: what a user is told where nothing can be rebuilt.
    """
    model.eval()
    device, k, n = loader.queries.device, model.k, model.n
    decoder = model.decoder
    every = (
        erasures.all_patterns(n)
        if n <= MOST_OUTPUTS
        else torch.cat([erasures.patterns(n, erased) for erased in range(model.r + 1)])
    )
    every = every[decoder.can_decode(every.to(device)).cpu()]
    every = every[decoder.rebuilt(every.to(device)).any(1).cpu()]
    patterns = every.to(device)
    rebuilt = decoder.rebuilt(patterns)

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
            for pattern, over, recon in zip(patterns, overall, reconstruction, strict=True):
                answer = decoder.decode(base_outputs, parity_outputs, pattern.expand(len(said), -1))
                for counts, labels in ((over, batch.targets), (recon, said)):
                    rank = ranks(answer, labels).clamp_(max=histogram.bins - 1) + cells
                    counts.scatter_add_(0, rank.flatten(), torch.ones_like(rank).flatten())
    shape = (len(patterns), k, histogram.bins)
    return CodeEvaluation(
        k=k,
        n=n,
        groups=groups,
        leftover=len(loader.sampler.rows) - groups * k,
        top_k=histogram.top_k,
        patterns=every,
        rebuilt=rebuilt.cpu(),
        overall=overall.view(shape).cpu(),
        reconstruction=reconstruction.view(shape).cpu(),
        base=histogram.compute().cpu(),
        default=default.cpu(),
        most_erased=model.r,
    )
