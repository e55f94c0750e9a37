"""Accuracies as torchmetrics: one histogram of the true class's rank gives every top-k."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torchmetrics import Metric

TOP_K = (1, 2, 5, 10, 20)


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before the labelled one, 0 where it is the prediction.

    Of equal scores the lower class comes first, as in ``argmax``; a label whose score is NaN comes last, and a NaN
    elsewhere before it.

    Args:
        scores: (..., C).
        labels: int64 (...).

    Returns:
        int64 (...), 0 to C.
    """
    labels = labels.unsqueeze(-1)
    own = scores.gather(-1, labels)
    later = torch.arange(scores.shape[-1], device=scores.device) >= labels
    behind = (scores < own) | ((scores == own) & later)
    return scores.shape[-1] - behind.sum(-1)


class RankHistogram(Metric):
    """Counts at which rank the labelled class comes, for each position of a group; exact under DDP.

    Args:
        num_classes: C.
        positions: k, or 1 for a base model.
    """

    full_state_update = False

    def __init__(self, num_classes: int, positions: int) -> None:
        super().__init__()
        self.top_k = tuple(top for top in TOP_K if top <= num_classes)
        self.bins = self.top_k[-1] + 1  # the last one holds all later ranks
        self.add_state("counts", torch.zeros(positions * self.bins, dtype=torch.long), dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Count: scores (G, positions, C), labels int64 (G, positions)."""
        rank = ranks(scores, labels).clamp_(max=self.bins - 1)
        cells = (rank + self.bins * torch.arange(rank.shape[1], device=rank.device)).flatten()
        self.counts.scatter_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> Tensor:
        """Return how many were counted at each rank: int64 (positions, bins)."""
        return self.counts.view(-1, self.bins)


def top_accuracies(counts: Tensor, top_k: tuple[int, ...]) -> dict[str, Tensor]:
    """Turn counts (positions, bins) into accuracies: 'top1', ..., over all, and 'top1_position0', ... for each."""
    within = counts.double().cumsum(1)
    accuracies = {f"top{top}": within[:, top - 1].sum() / counts.sum() for top in top_k}
    if len(counts) > 1:
        for position, row in enumerate(within):
            accuracies[f"top1_position{position}"] = row[0] / row[-1]
    return accuracies


class Accuracy(nn.Module):
    """What a LightningModule counts: fed by ``update``, read by ``compute``."""

    monitor: str
    """Name of the value that the best checkpoint has most of, on validation data."""
    update: Callable[..., None]

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracies by name."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget what was counted."""
        for metric in self.children():
            assert isinstance(metric, Metric)
            metric.reset()


class BaseAccuracy(Accuracy):
    """Accuracy of a base model against true labels: ``top1``, ``top2``, ...

    Args:
        num_classes: C.
    """

    monitor = "top1"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.histogram = RankHistogram(num_classes, positions=1)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count: predictions (B, C), targets int64 (B,)."""
        self.histogram.update(predictions.unsqueeze(1), targets.unsqueeze(1))

    def compute(self) -> dict[str, Tensor]:
        return top_accuracies(self.histogram.compute(), self.histogram.top_k)


class ReconstructionAccuracy(Accuracy):
    """Accuracy of what is rebuilt when one prediction is missing: A_d (``overall``) and ``reconstruction`` accuracy.

    ``overall_top1`` is A_d, against true labels; ``reconstruction_top1`` is against what the base model says.

    Args:
        num_classes: C.
        k: queries in a coding group.
    """

    monitor = "reconstruction_top1"

    def __init__(self, num_classes: int, k: int) -> None:
        super().__init__()
        self.overall = RankHistogram(num_classes, k)
        self.reconstruction = RankHistogram(num_classes, k)

    def update(self, reconstructions: Tensor, predictions: Tensor, targets: Tensor) -> None:
        """Count.

        Args:
            reconstructions: (G, k, C), each as rebuilt when it alone is missing.
            predictions: (G, k, C), the base model's.
            targets: int64 (G, k), true labels.
        """
        self.overall.update(reconstructions, targets)
        self.reconstruction.update(reconstructions, predictions.argmax(-1))

    def compute(self) -> dict[str, Tensor]:
        return {
            f"{name}_{top}": value
            for name, histogram in (("overall", self.overall), ("reconstruction", self.reconstruction))
            for top, value in top_accuracies(histogram.compute(), histogram.top_k).items()
        }


def with_prefix(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name values of one split: 'val', {'top1': ...} -> {'val/top1': ...}."""
    return {f"{prefix}/{name}": value for name, value in values.items()}
