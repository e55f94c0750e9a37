"""Optimiser steps: gradients accumulated, measured, clipped, and what moves with every step."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from parity.training.objectives.averaging import RunningAverage


class StepOptions(NamedTuple):
    """How a training step is taken, beside its optimiser; the names are those of Lightning's Trainer."""

    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    track_grad_norm: bool = False


class OptimizerSteps:
    """Takes the optimiser steps of a LightningModule that is trained by manual optimisation.

    Args:
        module: with a Trainer, which has set up its one optimiser, and at most one schedule.
        parameters: those that are trained.
        options: how.
        num_batches: of an epoch, whose last one completes a step.
        average: of the weights; None for none.
    """

    def __init__(
        self,
        module: pl.LightningModule,
        parameters: Iterable[nn.Parameter],
        options: StepOptions,
        num_batches: int,
        average: RunningAverage | None,
    ) -> None:
        optimizer, schedule = module.optimizers(), module.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer), "there is one optimiser"
        assert isinstance(schedule, LRScheduler | None), "there is one schedule at most"
        self._module, self._optimizer, self._schedule, self._average = module, optimizer, schedule, average
        self._parameters, self._options, self._num_batches = list(parameters), options, num_batches

    def take(self, loss: Tensor, batch: int) -> Tensor | None:
        """Add the gradients of a batch's loss, and where they are due, step.

        Args:
            loss: scalar.
            batch: its number in the epoch, counted from 1.

        Returns:
            The norm of the gradients, scalar, if there was a step and it is tracked.
        """
        every, norm = self._options.accumulate_grad_batches, None
        self._module.manual_backward(loss if every == 1 else loss / every)
        if batch % every and batch != self._num_batches:
            return None
        if self._options.track_grad_norm:
            norm = torch.nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if (value := self._options.gradient_clip_val) is not None:
            self._module.clip_gradients(self._optimizer.optimizer, value, self._options.gradient_clip_algorithm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update()
        if self._schedule is not None:
            self._schedule.step()
        return norm

    def state(self, batches: int) -> dict[str, Any]:
        """Return, on the CPU, the gradients that wait for a step after so many batches of an epoch."""
        if batches % self._options.accumulate_grad_batches == 0:
            return {}
        return {"gradients": [None if p.grad is None else p.grad.cpu() for p in self._parameters]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Set what ``state`` returned."""
        for parameter, gradient in zip(self._parameters, state.get("gradients", ()), strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
