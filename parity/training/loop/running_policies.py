"""The policies of a run at work: hooks called, values sent to where their keywords belong, state kept."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from parity.errors import ParityError, did_you_mean
from parity.signatures import keywords
from parity.training.loop import ranks
from parity.training.objectives.policies import Constant, EarlyStopping, Policy, ValuePolicy

_HOOKS = ("epoch_started", "train_step_started", "train_step_finished", "validation_started", "epoch_finished")

OF_OPTIMIZER = ("lr", "weight_decay")
"""Keywords whose values go to the optimiser; all others go to the loss, or to a training step that takes them."""


class RunningPolicies:
    """Copies of policies, by keyword; what is not a policy is a ``Constant``.

    A value goes to the optimiser, to the training step or to the loss, to the first of them that takes its keyword.

    Args:
        policies: a config's, which stay as they are.
        step: the training step, called with (batch, split) and with keywords.
        loss: the loss, called with ``loss_arguments`` arguments and with keywords.

    Raises:
        ParityError: nothing takes a keyword, or a policy's state cannot be kept.
    """

    def __init__(
        self, policies: Mapping[str, Any], step: Callable[..., Any], loss: Callable[..., Any], loss_arguments: int
    ) -> None:
        if not isinstance(policies, Mapping):
            raise ParityError(f"policies go by their keywords, dict(lr=...), and are not a {type(policies).__name__}.")
        for name, policy in policies.items():
            if isinstance(policy, type):
                raise ParityError(f"the policy '{name}' is a class: pass an object, {policy.__name__}(...).")
            if name in OF_OPTIMIZER and (not isinstance(policy, Policy | int | float) or isinstance(policy, bool)):
                raise ParityError(f"'{name}' is a number or a policy, not {policy!r}.")
        self.by_name: dict[str, Policy] = {
            name: deepcopy(policy) if isinstance(policy, Policy) else Constant(policy)
            for name, policy in policies.items()
        }
        self.stopped: str | None = None
        """Why training ends early, once it does."""
        self.as_tensors = False
        """Whether numbers are sent to the loss and the training step as tensors: for other ones they would be compiled
        again."""
        self.for_step: dict[str, Any] = {}
        self.for_loss: dict[str, Any] = {}
        self._of_step, self._of_loss = self._routes(step, loss, loss_arguments)
        self._listeners = {
            hook: {name: policy for name, policy in self.by_name.items() if _overrides(policy, hook)} for hook in _HOOKS
        }
        self.accept_any_loss = any(policy.accepts_any_loss for policy in self.by_name.values())
        self._before_validation: dict[str, Any] | None = None
        self._validation_started = False
        self._values: dict[str, Any] = {}
        self._optimizer: torch.optim.Optimizer | None = None
        self.state_dict()

    def _routes(
        self, step: Callable[..., Any], loss: Callable[..., Any], loss_arguments: int
    ) -> tuple[set[str], set[str]]:
        """Return the keywords whose values go to the training step, and to the loss."""
        valued = {name for name, policy in self.by_name.items() if isinstance(policy, ValuePolicy)} - {*OF_OPTIMIZER}
        step_takes, loss_takes = keywords(step, 2), keywords(loss, loss_arguments)
        of_step = valued if step_takes is None else valued & step_takes
        of_loss = valued - of_step
        if loss_takes is not None and (unknown := sorted(of_loss - loss_takes)):
            raise ParityError(
                f"nothing takes the value '{unknown[0]}': neither the optimiser nor the loss, {type(loss).__name__}; "
                f"{did_you_mean(unknown[0], [*OF_OPTIMIZER, *(step_takes or ()), *loss_takes])}"
            )
        return of_step, of_loss

    @property
    def feed_the_loss(self) -> bool:
        """Whether the loss, or the training step, takes a value."""
        return bool(self._of_step or self._of_loss)

    def __bool__(self) -> bool:
        return bool(self.by_name)

    def _call(self, hook: str, *arguments: Any, **keywords: Any) -> None:
        """Call a hook of all policies and send their values; all ranks stop where one does."""
        reason = None
        for name, policy in self._listeners[hook].items():
            try:
                getattr(policy, hook)(*arguments, **keywords)
            except EarlyStopping as stopping:
                reason = f"{name} ({type(policy).__name__})" + (f": {stopping}" if str(stopping) else "")
        found = [why for why in ranks.gather(reason) if why is not None]
        if found and self.stopped is None:
            self.stopped = found[0]
        self._send()

    def epoch_started(self, epoch: int, optimizer: torch.optim.Optimizer, resumed: bool) -> None:
        """Call the hooks of an epoch's start, unless the epoch is resumed, and send all values."""
        self._before_validation, self._validation_started, self._optimizer = None, False, optimizer
        if resumed:
            self._send()
        else:
            self._call("epoch_started", epoch)

    def step_started(self, epoch: int, iteration: int) -> None:
        if self._listeners["train_step_started"]:
            self._call("train_step_started", epoch, iteration)

    def step_finished(self, epoch: int, iteration: int, loss: torch.Tensor) -> None:
        if self._listeners["train_step_finished"]:
            self._call("train_step_finished", epoch, iteration, _mean_of_ranks([float(loss)])[0])

    def validation_started(self, epoch: int, losses: Sequence[float]) -> None:
        """Call the hooks of validation; a run stopped within it resumes before them."""
        self._before_validation, self._validation_started = self.state_dict(), True
        self._call("validation_started", epoch, _mean_of_ranks(losses))

    def epoch_finished(self, epoch: int, losses: Sequence[float], metrics: dict[str, float]) -> dict[str, float]:
        """Call the hooks of an epoch's end, and return what is logged of it."""
        if not self._validation_started:
            self.validation_started(epoch, losses)
        self._before_validation = None
        used = self._values
        self._call("epoch_finished", epoch, train_losses=_mean_of_ranks(losses), metrics=metrics)
        logged = {name: float(value) for name, value in used.items() if isinstance(value, bool | int | float)}
        for name, policy in self.by_name.items():
            logged |= {f"{name}/{part}": value for part, value in policy.logged().items()}
        return {f"policy/{name}": value for name, value in logged.items()}

    def _send(self) -> None:
        """Put the policies' values where they go; there is no optimiser before the first epoch."""
        self._values = {name: policy.value for name, policy in self.by_name.items() if isinstance(policy, ValuePolicy)}
        self.for_step = {name: self._sent(self._values[name]) for name in self._of_step}
        self.for_loss = {name: self._sent(self._values[name]) for name in self._of_loss}
        for name in self._values.keys() & set(OF_OPTIMIZER):
            value = self._values[name]
            if not isinstance(value, int | float):
                raise ParityError(f"the policy '{name}' has the value {value!r}, and the optimiser takes numbers.")
            for group in self._optimizer.param_groups if self._optimizer else ():
                if name not in group:
                    raise ParityError(f"the optimiser {type(self._optimizer).__name__} does not take '{name}'.")
                group[name] = float(value)

    def _sent(self, value: Any) -> Any:
        return torch.tensor(value) if self.as_tensors and isinstance(value, float) else value

    def state_dict(self) -> dict[str, Any]:
        """Return what a run is resumed with."""
        if self._before_validation is not None:
            return self._before_validation
        states = {name: deepcopy(policy.state_dict()) for name, policy in self.by_name.items()}
        return {"stopped": self.stopped, "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set what ``state_dict`` returned."""
        self.check_state(state)
        for name, policy in self.by_name.items():
            policy.load_state_dict(deepcopy(state["states"][name]))
        self.stopped = state["stopped"]
        self._send()

    def check_state(self, state: Any) -> None:
        """Make sure that a checkpoint's state is of these policies.

        Raises:
            ValueError, LookupError, TypeError: it is not.
        """
        if not isinstance(state["stopped"], str | None):
            raise TypeError("not a state of policies")
        if state["states"].keys() != self.by_name.keys():
            raise ValueError(f"its policies are {', '.join(state['states'])}, expected {', '.join(self.by_name)}")
        for name, policy in self.by_name.items():
            if state["states"][name].keys() != policy.state_dict().keys():
                raise ValueError(f"the policy '{name}' is of another kind")


def _overrides(policy: Policy, hook: str) -> bool:
    return getattr(type(policy), hook) is not getattr(Policy, hook)


def _mean_of_ranks(losses: Sequence[float]) -> list[float]:
    every = ranks.gather(list(losses))
    return every[0] if len(every) == 1 else [sum(values) / len(every) for values in zip(*every, strict=True)]
