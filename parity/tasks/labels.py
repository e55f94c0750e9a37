"""Multi-label classification: any of L labels, each on its own."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import dtype_name

BOTH_LOGITS = (
    "for two classes, hand over both logits by output=lambda logit: torch.cat([torch.zeros_like(logit), logit], 1)"
)
"""What to do where a network of two classes returns one logit."""

_MOST_SHOWN = 4


class MultiLabel(Task):
    """Any of L labels; predictions are logits (L,), targets 0 or 1, int64 (L,).

    Measured by the mean over queries of the average precision of their labels' ranking (mAP; torchmetrics'
    ``MultilabelRankingAveragePrecision``), and by the micro-averaged F1 score of labels whose logit is above 0. A query
    without labels, or with all, is ranked right by any prediction: its precision is 1, as scikit-learn's
    ``label_ranking_average_precision_score`` has it.

    Args:
        num_labels: L, 2 or more.

    Raises:
        ParityError: there is one label, whose ranking is always right.
    """

    measures = ("map", "f1")
    symbols = ("mAP", "mAP")
    likelihood = "bernoulli"

    def __init__(self, num_labels: int) -> None:
        if num_labels < 2:
            raise ParityError(f"labels are ranked, and there is nothing to rank of {num_labels}: {BOTH_LOGITS}.")
        self.prediction_shape = (num_labels,)

    @property
    def statistics(self) -> int:
        """The average precision; true positives, false positives, false negatives."""
        return 4

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        present, predicted = targets > 0, predictions > 0
        counts = [present & predicted, ~present & predicted, present & ~predicted]
        return torch.stack(
            [average_precision(predictions, present), *(count.sum(-1).double() for count in counts)], dim=-1
        )

    def summarise(self, means: Tensor) -> Tensor:
        precision, true, false, missed = means.unbind(-1)
        return torch.stack([precision, (2 * true / (2 * true + false + missed)).nan_to_num(0.0)], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return (predictions > 0).long()

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return each label's log-odds: those present in most queries are predicted."""
        present = targets.float().mean(0).clamp(1e-4, 1 - 1e-4)
        return present.logit()

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"mAP {means['map']:.4f}, micro F1 {means['f1']:.4f} over {queries}"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return labels as int64 (N, L), 0 or 1; they may be bool, or numbers of any type."""
        (labels,) = self.prediction_shape
        if targets.ndim != 2 or targets.shape[1] != labels:
            raise ParityError(
                f"{where}: targets should hold a 0 or a 1 for each of {labels} labels, of shape (N, {labels}), not "
                f" {tuple(targets.shape)}."
            )
        if targets.is_complex() or not ((targets == 0) | (targets == 1)).all():
            raise ParityError(
                f"{where}: targets are {dtype_name(targets)} with other values than 0 and 1: hand over whether each "
                "label is there, as 0 and 1."
            )
        return targets.long()

    def in_words(self, values: Tensor, class_names: Sequence[str] | None) -> list[str]:
        present = [row.nonzero().flatten().tolist() for row in values > 0]
        named = [[class_names[label] if class_names else str(label) for label in row] for row in present]
        return [", ".join(row[:_MOST_SHOWN]) + ("…" if len(row) > _MOST_SHOWN else "") or "–" for row in named]


def average_precision(scores: Tensor, present: Tensor) -> Tensor:
    """Return the mean over the labels that are there of the share of such labels among those of no lower score.

    It is 1 where all labels are there or none. A score that is NaN is the lowest.

    Args:
        scores: (..., L).
        present: bool (..., L).

    Returns:
        float64 (...).
    """
    lowest = torch.finfo(torch.double).min
    scores = scores.double().nan_to_num(lowest, neginf=lowest).contiguous()
    labels = scores.shape[-1]
    of_present = scores.masked_fill(~present, -torch.inf).sort(-1).values
    among_all = labels - torch.searchsorted(scores.sort(-1).values, scores)
    among_present = labels - torch.searchsorted(of_present, scores)
    count = present.sum(-1)
    precision = (among_present / among_all).masked_fill(~present, 0).sum(-1) / count.clamp(min=1)
    return precision.masked_fill((count == 0) | (count == labels), 1.0)
