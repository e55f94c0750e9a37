"""Optimiser steps: gradients accumulated, measured, clipped, and what moves with every step.

Lightning's own way through a step, by strategy and precision, is as long as a tenth of a small network's step: it is
taken here directly. A callback's hooks around it are called where it has them.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from parity.training.objectives.averaging import RunningAverage

_AT_ONCE = nullcontext()
"""Ranks average their gradients in the backward pass, if there are several."""


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
        self._module, self._counted, self._optimizer = module, optimizer, optimizer.optimizer
        self._schedule, self._average = schedule, average
        self._parameters, self._options, self._num_batches = list(parameters), options, num_batches
        trainer = module.trainer
        self._strategy = trainer.strategy
        self._scaler: GradScaler | None = getattr(self._strategy.precision_plugin, "scaler", None)
        if self._scaler is not None and isinstance(self._optimizer, torch.optim.SGD):
            _begin_momentum(self._optimizer)
        wrapped = self._strategy.model
        self._apart = wrapped if isinstance(wrapped, DistributedDataParallel) else None
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self._listeners = {
            hook: [each for each in callbacks if is_overridden(hook, each, pl.Callback)]
            for hook in ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
        }

    def take(self, loss: Tensor, batch: int) -> Tensor | None:
        """Add the gradients of a batch's loss, and where they are due, step.

        Args:
            loss: scalar.
            batch: its number in the epoch, counted from 1.

        Returns:
            The norm of the gradients, scalar, if there was a step and it is tracked.
        """
        every = self._options.accumulate_grad_batches
        due = batch % every == 0 or batch == self._num_batches
        with _AT_ONCE if due or self._apart is None else self._apart.no_sync():
            self._backward(loss if every == 1 else loss / every)
        if not due:
            return None
        norm = self._measure_and_clip()
        self._call("on_before_optimizer_step", self._optimizer)
        self._counted._on_before_step()
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._counted._on_after_step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._average.update()
        if self._schedule is not None:
            self._schedule.step()
        return norm

    def _backward(self, loss: Tensor) -> None:
        self._call("on_before_backward", loss)
        self._strategy.pre_backward(loss)  # where there are several processes, they average their gradients
        self._module.backward(loss if self._scaler is None else self._scaler.scale(loss))
        self._strategy.post_backward(loss)
        self._call("on_after_backward")

    def _measure_and_clip(self) -> Tensor | None:
        """Clip the gradients, if they are to be, and return their norm before, if it is tracked."""
        norm, longest = None, self._options.gradient_clip_val
        if self._scaler is not None and (longest is not None or self._options.track_grad_norm):
            self._scaler.unscale_(self._optimizer)
        if self._options.track_grad_norm:
            norm = nn.utils.get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        if longest is not None and self._options.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self._parameters, longest)
        elif longest is not None:
            nn.utils.clip_grad_norm_(self._parameters, longest)
        return norm

    def mean_norm(self, norms: Sequence[Tensor]) -> Tensor:
        """Return the mean of the gradients' norms; of scaled ones that overflowed, there was no step."""
        values = torch.stack(list(norms))
        if self._scaler is not None and (finite := values.isfinite()).any():
            values = values[finite]
        return values.mean()

    def _call(self, hook: str, *arguments: object) -> None:
        """Call a hook of the module and of the callbacks that have it."""
        getattr(self._module, hook)(*arguments)
        for listener in self._listeners[hook]:
            getattr(listener, hook)(self._module.trainer, self._module, *arguments)

    def state(self, batches: int) -> dict[str, Any]:
        """Return, on the CPU, the gradients that wait for a step after so many batches of an epoch."""
        if batches % self._options.accumulate_grad_batches == 0:
            return {}
        return {"gradients": [None if p.grad is None else p.grad.cpu() for p in self._parameters]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Set what ``state`` returned."""
        for parameter, gradient in zip(self._parameters, state.get("gradients", ()), strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    """Let the momentum be zeros before there is one; as it is, it would be what lies in memory.

    Of gradients that overflow, as those of a first scaled loss may, PyTorch's fused SGD makes no step, and yet takes
    the momentum for begun in the next.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
