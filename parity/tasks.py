"""What a network predicts, and when that is right: classification, or localisation of one object by its box.

A task measures predictions one by one, in numbers whose mean over predictions is an accuracy. So training, evaluation
and tables need not know which task they serve.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

TOP_K = (1, 2, 5, 10, 20)
SHARE_IOU = 0.75


class Task(ABC):
    """What predictions are measured by.

    Attributes:
        prediction_shape: shape P of a prediction.
        measures: names of what ``measure`` returns, the one that checkpoints are chosen by first.
        symbols: what tables and progress bars call the first measure of a base model, and of what is rebuilt.
    """

    prediction_shape: tuple[int, ...]
    measures: tuple[str, ...]
    symbols: tuple[str, str] = ("A_a", "A_d")

    @abstractmethod
    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Measure each prediction: predictions (..., *P), targets (...) or (..., *P) -> (..., M)."""

    @abstractmethod
    def as_targets(self, predictions: Tensor) -> Tensor:
        """Return what a base model's predictions (..., *P) are as targets, to measure agreement with it."""

    @abstractmethod
    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the best prediction without any output, given the training data's targets (N, ...): (*P)."""

    @abstractmethod
    def describe(self, means: Mapping[str, float], queries: int) -> str:
        """Put the mean measures of so many predictions into a few words."""


class Classification(Task):
    """One of C classes; predictions are logits (C,), targets int64 classes. Measured by top-1, 2, 5, 10, 20 accuracy.

    Args:
        num_classes: C.
    """

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


class Localisation(Task):
    """The box of one object; predictions and targets are (x, y, w, h), x and y the corner of least coordinates.

    With W and H the sides of the image, in pixels, a box is (2x/W - 1, 2y/H - 1, 2w/W, 2h/H). Measured by the
    intersection over union (IoU) with the target, and by the share of boxes whose IoU is at least 0.75.
    """

    prediction_shape = (4,)
    measures = ("iou", "iou75")
    symbols = ("IoU", "IoU")

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        overlap = box_iou(predictions.double(), targets.double())
        return torch.stack([overlap, (overlap >= SHARE_IOU).to(overlap)], dim=-1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the mean box."""
        return targets.float().mean(0)

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"mean IoU {means['iou']:.4f}, IoU of {SHARE_IOU} or more for {means['iou75']:.4f} of {queries}"


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


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of boxes (x, y, w, h), pair by pair: (..., 4), (..., 4) -> (...).

    Boxes are not cut at the image's border. One of negative width or height is empty, and has an IoU of 0, as has a
    box with NaN.
    """
    sizes, other_sizes = boxes[..., 2:], others[..., 2:]
    low = torch.maximum(boxes[..., :2], others[..., :2])
    high = torch.minimum(boxes[..., :2] + sizes, others[..., :2] + other_sizes)
    # x + w - x may be rounded to more than w, and an IoU to more than 1.
    common = torch.minimum(high - low, torch.minimum(sizes, other_sizes))
    intersection = common.clamp(min=0).prod(-1)
    union = sizes.clamp(min=0).prod(-1) + other_sizes.clamp(min=0).prod(-1) - intersection
    return (intersection / union).nan_to_num(0.0)


def to_box(pixels: Tensor, sides: Tensor) -> Tensor:
    """Return the target of boxes in pixels: boxes (N, 4) as (x, y, w, h), sides (N, 2) as (W, H) -> (N, 4)."""
    scaled = 2 * pixels / sides.repeat(1, 2)
    return scaled - torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=scaled.dtype, device=scaled.device)
