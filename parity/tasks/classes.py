"""Classification: one of C classes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import check_classes, check_integers, is_one_hot

TOP_K = (1, 2, 5, 10, 20)


class Classification(Task):
    """One of C classes; predictions are logits (C,), targets int64 classes. Measured by top-1, 2, 5, 10, 20 accuracy.

    Args:
        num_classes: C.
    """

    likelihood = "categorical"

    def __init__(self, num_classes: int) -> None:
        self.prediction_shape = (num_classes,)
        self.top_k = tuple(top for top in TOP_K if top <= num_classes)
        self.measures = tuple(f"top{top}" for top in self.top_k)

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        rank = ranks(predictions, targets)
        return torch.stack([rank < top for top in self.top_k], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions.argmax(-1)

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the most frequent class, one-hot."""
        counts = targets.bincount(minlength=self.prediction_shape[0])
        return functional.one_hot(counts.argmax(), self.prediction_shape[0]).float()

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        tops = ", ".join(f"{name} {means[name]:.4f}" for name in self.measures)
        return f"{round(means['top1'] * queries)} / {queries} correct ({tops})"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return classes as int64 (N,); they may be integers of any width, (N,) or (N, 1), or bool for two classes."""
        (classes,) = self.prediction_shape
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets.squeeze(1)
        if targets.ndim == 2 and (targets.shape[1] == classes or is_one_hot(targets)):
            raise ParityError(
                f"{where}: targets of shape {tuple(targets.shape)} look one-hot, and classes are numbers, (N,): hand "
                "over targets.argmax(1)."
            )
        if targets.ndim != 1:
            raise ParityError(
                f"{where}: targets should be the numbers of classes, of shape (N,), not {tuple(targets.shape)}."
            )
        if targets.dtype == torch.bool and classes != 2:
            raise ParityError(
                f"{where}: targets are bool, which stands for two classes, not {classes}: hand over integers."
            )
        numbers = check_integers(targets, "classes", where)
        check_classes(numbers, classes, where)
        return numbers

    def in_words(self, values: Tensor, class_names: Sequence[str] | None) -> list[str]:
        numbers = (values.argmax(-1) if values.is_floating_point() else values).tolist()
        return [class_names[number] if class_names else str(number) for number in numbers]


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
