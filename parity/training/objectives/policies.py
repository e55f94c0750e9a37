"""Policies: what changes with time while a network is trained, and what ends its training early.

After those of deep_pipe (https://github.com/neuro-ml/deep_pipe, ``dpipe.train.policy``). Epochs, and steps in each of
them, are counted from 0.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from parity.errors import ParityError
from parity.plain import walk


class EarlyStopping(Exception):
    """Raised by a policy to end the training.

    From a hook of a step: that step is the last. From ``validation_started`` or ``epoch_finished``: that epoch is.
    From ``epoch_started``: the one before was. What was trained is validated and saved as ever, and the run counts as
    finished.
    """


class Policy:
    """Hooks that are called while a network is trained. Subclasses override any of them.

    Its attributes are its state: they are kept in checkpoints, and a run that is resumed sets them. They are plain
    values, lists and dicts of these, or tensors; callables are left out. One with other attributes overrides
    ``state_dict`` and ``load_state_dict``.

    Hooks of steps are called where they are overridden alone: ``train_step_finished`` waits for the device each time.
    """

    accepts_any_loss: ClassVar[bool] = False
    """Whether it handles a loss that is not finite, which otherwise ends a run with an error."""

    def epoch_started(self, epoch: int) -> None:
        """Before the first step of an epoch."""

    def train_step_started(self, epoch: int, iteration: int) -> None:
        """Before a step; a value that changes here is that of the step."""

    def train_step_finished(self, epoch: int, iteration: int, loss: float) -> None:
        """After a step."""

    def validation_started(self, epoch: int, train_losses: Sequence[float]) -> None:
        """After the last step of an epoch, with the losses of all of its steps."""

    def epoch_finished(self, epoch: int, *, train_losses: Sequence[float], metrics: dict[str, float]) -> None:
        """After validation, with everything that is logged of the epoch, by the names it has there."""

    def logged(self) -> dict[str, float]:
        """Return what is logged after an epoch, as ``policy/<keyword>/<name>``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a run is resumed with, as plain values and tensors.

        Raises:
            ParityError: an attribute is neither.
        """
        return {
            name: _plain(value, f"{type(self).__name__}.{name}")
            for name, value in vars(self).items()
            if not callable(value)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        vars(self).update(state)


def _plain(value: Any, what: str) -> Any:
    return walk(value, partial(_plain_leaf, what=what), keys=partial(_plain, what=what), keep_tuples=True)


def _plain_leaf(value: Any, what: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    raise ParityError(
        f"{what} is a {type(value).__name__}, which a checkpoint cannot hold: make it of plain values, or override "
        "state_dict and load_state_dict."
    )


class ValuePolicy(Policy):
    """A policy with a ``value``, which is sent to the taker of its keyword in every epoch."""

    value: Any


@dataclass
class Constant(ValuePolicy):
    """Always the same value."""

    value: Any


class EpochValue(ValuePolicy):
    """A value that depends on the number of the epoch alone."""

    def __post_init__(self) -> None:
        self.epoch_started(0)

    def epoch_started(self, epoch: int) -> None:
        self.value = self.at(epoch)

    def at(self, epoch: int) -> Any:
        """Return the value in an epoch."""
        raise NotImplementedError


@dataclass
class Exponential(EpochValue):
    """``initial * multiplier ** (epoch // step_length)``, within bounds.

    Args:
        initial: value in epoch 0.
        multiplier: what a step multiplies it by.
        step_length: epochs of a step.
        floordiv: steps; otherwise ``epoch / step_length`` is the exponent.
        min_value, max_value: bounds; None for none.
    """

    initial: float
    multiplier: float
    step_length: int = 1
    floordiv: bool = True
    min_value: float | None = None
    max_value: float | None = None

    def __post_init__(self) -> None:
        if self.step_length < 1:
            raise ParityError(f"the steps of an Exponential last 1 epoch or more, not {self.step_length}.")
        super().__post_init__()

    def at(self, epoch: int) -> float:
        power = epoch // self.step_length if self.floordiv else epoch / self.step_length
        value = self.initial * self.multiplier**power
        if self.min_value is not None:
            value = max(value, self.min_value)
        return value if self.max_value is None else min(value, self.max_value)


@dataclass
class Schedule(EpochValue):
    """A value that is multiplied at some epochs.

    Args:
        initial: value before the first of them.
        epoch2value_multiplier: what it is multiplied by, by the epoch from which on it is.
    """

    initial: float
    epoch2value_multiplier: dict[int, float]

    def at(self, epoch: int) -> float:
        value = self.initial
        for start, multiplier in sorted(self.epoch2value_multiplier.items()):
            if start <= epoch:
                value *= multiplier
        return value

    @classmethod
    def constant_multiplier(cls, initial: float, multiplier: float, epochs: Sequence[int]) -> "Schedule":
        """Multiply by the same at all of these epochs."""
        return cls(initial, dict.fromkeys(epochs, multiplier))


@dataclass
class Switch(EpochValue):
    """A value of any kind that is replaced at some epochs.

    Args:
        initial: value before the first of them.
        epoch_to_value: what it becomes, by the epoch from which on it does.
    """

    initial: Any
    epoch_to_value: dict[int, Any]

    def at(self, epoch: int) -> Any:
        past = [start for start in self.epoch_to_value if start <= epoch]
        return self.epoch_to_value[max(past)] if past else self.initial


@dataclass
class DecreasingOnPlateau(ValuePolicy):
    """A value that is multiplied when the mean training loss has not fallen for more than ``patience`` epochs.

    The loss has fallen when it is below ``max(lowest - atol, lowest - rtol * abs(lowest))``, where ``lowest`` is what
    it last fell to.

    Args:
        initial: value at first.
        multiplier: what it is multiplied by.
        patience: epochs without a fall that are waited for.
        rtol, atol: relative and absolute fall that counts; the smaller of the two is enough.
    """

    initial: float
    multiplier: float
    patience: int
    rtol: float
    atol: float

    def __post_init__(self) -> None:
        self.value = self.initial
        self.epochs_waited = 0
        self.margin_loss = math.inf

    def epoch_finished(self, epoch: int, *, train_losses: Sequence[float], metrics: dict[str, float]) -> None:
        loss = _mean(train_losses)
        if loss < self.margin_loss:
            self.margin_loss = max(loss - self.atol, loss * (1 - self.rtol if loss >= 0 else 1 + self.rtol))
            self.epochs_waited = 0
            return
        self.epochs_waited += 1
        if self.epochs_waited > self.patience:
            self.value *= self.multiplier
            self.epochs_waited = 0


@dataclass
class LambdaEpoch(EpochValue):
    """What a function returns for the epoch.

    Args:
        func: epoch -> value.
    """

    func: Callable[[int], Any]

    def at(self, epoch: int) -> Any:
        return self.func(epoch)


@dataclass
class LossStop(Policy):
    """Ends training when the mean training loss of an epoch is ``max_ratio`` times its lowest so far, or not finite.

    A loss may be negative: what counts is that it is ``(max_ratio - 1) * abs(lowest)`` above the lowest.

    Args:
        max_ratio: above 1; None ends only at a loss that is not finite.
    """

    max_ratio: float | None = 3.0
    accepts_any_loss = True

    def __post_init__(self) -> None:
        if self.max_ratio is not None and not self.max_ratio > 1:
            raise ParityError(f"the max_ratio of a LossStop is above 1, not {self.max_ratio:g}: it would stop at once.")
        self.min_loss = math.inf

    def validation_started(self, epoch: int, train_losses: Sequence[float]) -> None:
        loss = _mean(train_losses)
        if not math.isfinite(loss):
            raise EarlyStopping(f"the mean training loss was {loss}")
        self.min_loss = min(self.min_loss, loss)
        if self.max_ratio is None:
            return
        if loss > self.min_loss * (self.max_ratio if self.min_loss >= 0 else 2 - self.max_ratio):
            raise EarlyStopping(f"the mean training loss was {loss:.4g}, after {self.min_loss:.4g}")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


class TimeProfiler(Policy):
    """Logs the seconds that an epoch takes, its training, its validation, and a step and a batch of it on average.

    A batch is the time between steps, in which the next one's queries are made. It overrides the hooks of steps, so
    that training waits for the device in each. After a run is resumed within an epoch, the epoch counts from there.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._started = self._stepped = self._trained = self._now = time.perf_counter()
        self._in_steps = self._between = 0.0
        self._steps = 0

    def epoch_started(self, epoch: int) -> None:
        self._begin()

    def train_step_started(self, epoch: int, iteration: int) -> None:
        now = time.perf_counter()
        self._between += now - self._stepped
        self._stepped = now

    def train_step_finished(self, epoch: int, iteration: int, loss: float) -> None:
        now = time.perf_counter()
        self._in_steps += now - self._stepped
        self._steps += 1
        self._stepped = now

    def validation_started(self, epoch: int, train_losses: Sequence[float]) -> None:
        self._trained = time.perf_counter()

    def epoch_finished(self, epoch: int, *, train_losses: Sequence[float], metrics: dict[str, float]) -> None:
        self._now = time.perf_counter()

    def logged(self) -> dict[str, float]:
        steps = max(1, self._steps)
        return {
            "epoch": self._now - self._started,
            "training": self._trained - self._started,
            "validation": self._now - self._trained,
            "step": self._in_steps / steps,
            "batch": self._between / steps,
        }

    def state_dict(self) -> dict[str, Any]:
        return {}
