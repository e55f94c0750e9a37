"""How ``protect`` trains by default.

What it was tuned on, and what it reaches there, stands in docs/protect.md.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from parity.data.augmentation import RandomCropAndFlip
from parity.training.objectives.optimizers import AdamW, OneCycle, OptimizerFactory, ScheduleFactory

_QUERIES_TO_TRAIN_ON = 500_000
_EPOCHS = (6, 200)
_MIRRORED_ALIKE, _MOVED_ALIKE = 0.8, 0.9
"""Shares of predictions that stay as they are."""
_SHARES_OF_SIDE = (8, 16, 32)
"""Images are moved by up to a side divided by the first of these that may be."""


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, length and batches of a training.

    Args:
        optimizer, schedule: of ``train_model``.
        epochs: how many; None for as many as show 500,000 queries, at least 6 and at most 200.
        queries_per_batch: whatever k is.
        temperature: of the divergence from the base model's predictions, where there are no labels.
    """

    optimizer: OptimizerFactory = field(default_factory=lambda: AdamW(lr=5e-3, weight_decay=1e-2))
    schedule: ScheduleFactory | None = field(default_factory=OneCycle)
    epochs: int | None = None
    queries_per_batch: int = 256
    temperature: float = 2.0

    def epochs_for(self, queries: int) -> int:
        """Return the number of epochs for so many training queries."""
        least, most = _EPOCHS
        return self.epochs or min(most, max(least, math.ceil(_QUERIES_TO_TRAIN_ON / max(queries, 1))))

    def batch_size(self, k: int, queries: int) -> int:
        """Return the groups in a batch: fewer of little data, so that an epoch has eight batches or more."""
        return max(2, min(self.queries_per_batch, queries // 8) // k)


@torch.no_grad()
def augmentation_for(network: nn.Module, queries: Tensor) -> RandomCropAndFlip | None:
    """Return how training images are changed: moved and mirrored as far as the network's predictions hardly change.

    Images whose classes depend on it, as digits do, are not mirrored, and those that fill their frame are not moved.

    Args:
        network: the base model, a classification's.
        queries: some that it takes, (B, *Q).

    Returns:
        None where queries are not images, or neither leaves predictions as they are.
    """
    if queries.ndim != 4:
        return None
    predicted = network(queries).argmax(-1)

    def alike(changed: Tensor) -> float:
        return float((network(changed).argmax(-1) == predicted).float().mean())

    mirror = alike(queries.flip(-1)) >= _MIRRORED_ALIKE
    side = min(queries.shape[2:])
    for padding in (side // share for share in _SHARES_OF_SIDE if side >= share):
        if alike(RandomCropAndFlip(padding, mirror=False)(queries)) >= _MOVED_ALIKE:
            return RandomCropAndFlip(padding, mirror)
    return RandomCropAndFlip(0, mirror) if mirror else None
