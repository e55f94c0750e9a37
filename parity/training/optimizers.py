"""Optimisers and schedules as values of a config: what they are made with is known before there are parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR


class OptimizerFactory(Protocol):
    """Anything that makes an optimiser for given parameters."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...


@dataclass(frozen=True)
class Adam:
    """``torch.optim.Adam`` with these settings."""

    lr: float = 1e-3
    weight_decay: float = 0.0

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class SGD:
    """``torch.optim.SGD`` with these settings."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


class ScheduleFactory(Protocol):
    """Anything that makes a learning-rate schedule for an optimiser and the number of steps it will take."""

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler: ...


@dataclass(frozen=True)
class OneCycle:
    """``OneCycleLR``: the learning rate rises to the optimiser's own over a share of all steps, then falls to nothing.

    Smith, Topin: "Super-Convergence" (2018). The momentum stays as it is.
    """

    warm_up: float = 0.3

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, highest, total_steps, pct_start=self.warm_up, cycle_momentum=False)
