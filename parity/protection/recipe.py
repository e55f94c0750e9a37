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
_MIRRORED_ALIKE = 0.7
_SHARE_OF_SIDE = 8


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, length and batches of a training.

    Args:
        optimizer, schedule: of ``train_model``.
        epochs: how many; None for as many as show 500,000 queries, at least 6 and at most 200.
        queries_per_batch: whatever k is.
        temperature: of the divergence from the base model's predictions, where there are no labels.
    """

    optimizer: OptimizerFactory = field(default_factory=lambda: AdamW(lr=2e-3, weight_decay=1e-2))
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
    """Return how training images are changed: moved by up to an eighth of a side, mirrored where that changes little.

    Args:
        network: the base model.
        queries: some that it takes, (B, *Q).

    Returns:
        None where queries are not images.
    """
    if queries.ndim != 4:
        return None
    _, _, height, width = queries.shape
    alike = network(queries).argmax(-1) == network(queries.flip(-1)).argmax(-1)
    return RandomCropAndFlip(min(height, width) // _SHARE_OF_SIDE, bool(alike.float().mean() >= _MIRRORED_ALIKE))
