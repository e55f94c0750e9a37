"""Dense prediction: one of C classes for every pixel, or every step of a sequence."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from parity.errors import ParityError
from parity.tasks.base import Task
from parity.tasks.checks import check_classes, check_integers

IGNORED = -100
"""As torch's losses have it by default."""


class DensePrediction(Task):
    """A class for every pixel; predictions are logits (C, *S), targets int64 (*S), e.g. S = (H, W).

    Measured by the share of an image's pixels that are right, in the mean over images, however many of it count;
    and by the mean over classes of the intersection over union (mIoU; torchmetrics' ``JaccardIndex``) of all pixels
    together. Images of which no pixel is counted are left out of validation and test data.

    Args:
        num_classes: C.
        shape: S.
        ignore_index: a target that stands for no class: such pixels are not counted, nor trained on. Checked targets
            have ``IGNORED`` in its place.
    """

    measures = ("pixels", "miou")
    symbols = ("pixels", "pixels")
    likelihood = "categorical"
    all_measurable: ClassVar[bool] = False

    def __init__(self, num_classes: int, shape: Sequence[int], ignore_index: int = IGNORED) -> None:
        self.prediction_shape = (num_classes, *shape)
        self.ignore_index = ignore_index

    @property
    def statistics(self) -> int:
        """The share of pixels that are right; for each class the pixels of both, and those of either."""
        return 1 + 2 * self.prediction_shape[0]

    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        dims = len(self.prediction_shape) - 1
        predicted = predictions.argmax(-1 - dims).masked_fill(predictions.isnan().any(-1 - dims), -1)
        predicted, targets = predicted.flatten(-dims), targets.flatten(-dims)
        counted = targets != IGNORED
        right = (predicted == targets) & counted
        columns = [right.sum(-1) / counted.sum(-1).clamp(min=1)]
        for number in range(self.prediction_shape[0]):
            own, true = (predicted == number) & counted, targets == number
            columns += [(own & true).sum(-1), (own | true).sum(-1)]
        return torch.stack([column.double() for column in columns], dim=-1)

    def summarise(self, means: Tensor) -> Tensor:
        both, either = means[..., 1::2], means[..., 2::2]
        seen = (either > 0).sum(-1).clamp(min=1)
        return torch.stack([means[..., 0], (both / either).nan_to_num(0.0).sum(-1) / seen], dim=-1)

    def measurable(self, targets: Tensor) -> Tensor:
        return (targets != IGNORED).flatten(1).any(1)

    def as_targets(self, predictions: Tensor) -> Tensor:
        return predictions.argmax(-len(self.prediction_shape))

    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the most frequent class of each pixel, one-hot."""
        counts = torch.stack([(targets == number).sum(0) for number in range(self.prediction_shape[0])])
        return functional.one_hot(counts.argmax(0), self.prediction_shape[0]).movedim(-1, 0).float()

    def describe(self, means: Mapping[str, float], queries: int) -> str:
        return f"pixel accuracy {means['pixels']:.4f}, mIoU {means['miou']:.4f} over {queries}"

    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return classes as int64 (N, *S); (N, 1, *S) is taken for it."""
        classes, *shape = self.prediction_shape
        if list(targets.shape[1:]) == [1, *shape]:
            targets = targets.squeeze(1)
        if list(targets.shape[1:]) != shape:
            raise ParityError(
                f"{where}: targets should be a class for every pixel, of shape (N, {', '.join(map(str, shape))}), not "
                f"{tuple(targets.shape)}."
            )
        numbers = check_integers(targets, "classes", where)
        numbers = numbers.masked_fill(numbers == self.ignore_index, IGNORED)
        check_classes(numbers, classes, where, IGNORED)
        return numbers

    def in_words(self, values: Tensor, class_names: Sequence[str] | None) -> list[str]:
        """Return the share of pixels of the most frequent class but 0."""
        numbers = self.as_targets(values) if values.is_floating_point() else values
        words = []
        for pixels in numbers.flatten(1).cpu():
            counts = pixels.clamp(min=0).bincount(minlength=self.prediction_shape[0]) / len(pixels)
            most = 1 + int(counts[1:].argmax())
            words.append(f"{class_names[most] if class_names else most}: {counts[most]:.0%}")
        return words
