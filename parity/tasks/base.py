"""What every task is: how predictions are measured, and when targets are such that they can be."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

Likelihood = Literal["categorical", "bernoulli", "gaussian"]
"""What predictions parametrise, and so which losses fit: logits of one class among several, along the first axis of a
prediction; logits of labels each on its own; numbers."""


class Task(ABC):
    """What predictions are measured by.

    A task measures predictions one by one, in numbers whose means over predictions its measures are made of. So
    training, evaluation and tables need not know which task they serve.

    Attributes:
        prediction_shape: shape P of a prediction.
        measures: names of what ``summarise`` returns, the one that checkpoints are chosen by first.
        symbols: what tables and progress bars call the first measure of a base model, and of what is rebuilt.
        likelihood: decides which losses fit.
        lowest: least value that the first measure can have; the greatest is 1.
        all_measurable: False where targets may have nothing to measure, see ``measurable``.
    """

    prediction_shape: tuple[int, ...]
    measures: tuple[str, ...]
    symbols: tuple[str, str] = ("A_a", "A_d")
    likelihood: ClassVar[Likelihood]
    lowest: ClassVar[float] = 0.0
    all_measurable: ClassVar[bool] = True

    @property
    def statistics(self) -> int:
        """How many numbers ``measure`` returns for a prediction; as many as there are measures, unless overridden."""
        return len(self.measures)

    @abstractmethod
    def measure(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Measure each prediction: predictions (..., *P), targets (...) or (..., *P) -> (..., statistics).

        The first number is the first measure. The others may be any whose means ``summarise`` needs.
        """

    def summarise(self, means: Tensor) -> Tensor:
        """Return the measures of many predictions from the means of their statistics: (..., statistics) -> (..., M)."""
        return means

    def measurable(self, targets: Tensor) -> Tensor:
        """Return which targets (N, ...), checked ones, have something to measure: bool (N,).

        Queries of others are left out of validation and test data.
        """
        return torch.ones(len(targets), dtype=torch.bool)

    @abstractmethod
    def as_targets(self, predictions: Tensor) -> Tensor:
        """Return what a base model's predictions (..., *P) are as targets, to measure agreement with it."""

    @abstractmethod
    def default_prediction(self, targets: Tensor) -> Tensor:
        """Return the best prediction without any output, given the training data's targets (N, ...): (*P)."""

    @abstractmethod
    def describe(self, means: Mapping[str, float], queries: int) -> str:
        """Put the measures of so many predictions into a few words."""

    @abstractmethod
    def checked(self, targets: Tensor, where: str) -> Tensor:
        """Return targets as ``measure`` takes them.

        Args:
            targets: (N, ...), of any type.
            where: names the data, for messages.

        Raises:
            ParityError: they are of another type, shape or range.
        """

    def fitted(self, targets: Tensor) -> Self:
        """Return the task with what its measures need to know of targets (N, ...), checked ones.

        They are the training data's, or where none is at hand those of the data that is measured.
        """
        return self

    def in_words(self, values: Tensor, class_names: Sequence[str] | None) -> list[str]:
        """Return what a report shows of predictions (k, *P) or targets (k, ...), a few words for each."""
        return [", ".join(f"{number:.2f}" for number in row[:4]) for row in values.flatten(1).tolist()]
