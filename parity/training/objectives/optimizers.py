"""Optimisers and schedules as values of a config: what they are made with is known before there are parameters."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from parity.errors import ParityError
from parity.plain import ABSENT


class OptimizerFactory(Protocol):
    """Anything that makes an optimiser for given parameters."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer: ...


_FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Types of devices that PyTorch has fused optimisers for."""


def _made(
    optimizer: Callable[..., torch.optim.Optimizer], parameters: Iterable[nn.Parameter], fused: bool, **settings: Any
) -> torch.optim.Optimizer:
    """Make one of PyTorch's optimisers, fused (one kernel for all parameters) where it can be."""
    parameters = list(parameters)
    can_be = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in parameters)
    return optimizer(parameters, fused=True if fused and can_be else None, **settings)


@dataclass(frozen=True)
class Adam:
    """``torch.optim.Adam`` with these settings; ``fused`` where PyTorch has that for the parameters."""

    lr: float = 1e-3
    weight_decay: float = 0.0
    fused: bool = field(default=True, metadata={ABSENT: False})

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _made(torch.optim.Adam, parameters, self.fused, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class AdamW:
    """``torch.optim.AdamW`` with these settings; ``fused`` as of ``Adam``."""

    lr: float = 1e-3
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    fused: bool = field(default=True, metadata={ABSENT: False})

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _made(
            torch.optim.AdamW, parameters, self.fused, lr=self.lr, weight_decay=self.weight_decay, betas=self.betas
        )


@dataclass(frozen=True)
class SGD:
    """``torch.optim.SGD`` with these settings; ``fused`` as of ``Adam``."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    fused: bool = field(default=True, metadata={ABSENT: False})

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _made(
            torch.optim.SGD, parameters, self.fused,
            lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov,
        )  # fmt: skip


@dataclass(frozen=True)
class AdaptiveClipping:
    """Another optimiser, with gradients clipped in proportion to the weights that they change.

    Brock, De, Smith, Simonyan: "High-Performance Large-Scale Image Recognition Without Normalization" (2021), equation
    3: the gradient of a unit (a row of a weight matrix, a filter, a whole vector) is scaled down to ``clip`` times the
    norm of its weights where it is longer; norms below ``eps`` count as that.

    Args:
        optimizer: makes the optimiser.
        clip: the longest gradient, in norms of the weights.
        eps: the smallest norm that weights are taken to have.
    """

    optimizer: OptimizerFactory
    clip: float = 0.01
    eps: float = 1e-3

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = self.optimizer(parameters)
        optimizer.register_step_pre_hook(self._clip)
        return optimizer

    @torch.no_grad()
    def _clip(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        # With 16-mixed, gradients are still scaled here if the optimiser is a fused one, which unscales them itself.
        scale = getattr(optimizer, "grad_scale", None)
        clip = self.clip if scale is None else self.clip * scale
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        pairs = [(parameter, parameter.grad) for parameter in trained if parameter.grad is not None]
        if not pairs:
            return
        weights, gradients = map(list, zip(*pairs, strict=True))
        shares, norms = [_unit_norms(each) for each in weights], [_unit_norms(each) for each in gradients]
        torch._foreach_clamp_min_(shares, self.eps)
        torch._foreach_mul_(shares, clip)
        torch._foreach_clamp_min_(norms, 1e-12)
        torch._foreach_div_(shares, norms)
        torch._foreach_clamp_max_(shares, 1)
        torch._foreach_mul_(gradients, shares)


def _unit_norms(values: Tensor) -> Tensor:
    if values.dim() < 2:
        return values.norm()
    if values.is_cuda:  # a filter whose channels lie last would be copied to be flattened
        return torch.linalg.vector_norm(values, dim=tuple(range(1, values.dim())), keepdim=True)
    return values.flatten(1).norm(dim=1).view(-1, *(1,) * (values.dim() - 1))


class ScheduleFactory(Protocol):
    """Anything that makes a learning-rate schedule for an optimiser and the number of steps it will take."""

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler: ...


@dataclass(frozen=True)
class OneCycle:
    """``OneCycleLR``: the learning rate rises to the optimiser's own over a share of all steps, then falls to nothing.

    Smith, Topin: "Super-Convergence" (2018). The momentum stays as it is.
    """

    warm_up: float = 0.3

    def __post_init__(self) -> None:
        _check_warm_up(self.warm_up)

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
        if total_steps == 1:  # the last learning rate, and so the only one, would be nothing
            return CosineAnnealingLR(optimizer, 1)
        highest = [group["lr"] for group in optimizer.param_groups]
        # PyTorch divides by the steps after the first one in which the rate rises, and these would be 0.
        rising = self.warm_up if self.warm_up * total_steps != 1 else (1 - 1e-9) / total_steps
        return OneCycleLR(optimizer, highest, total_steps, pct_start=rising, cycle_momentum=False)


@dataclass(frozen=True)
class Cosine:
    """The learning rate rises in a line over a share of all steps, then falls to nothing along half a cosine.

    Loshchilov, Hutter: "SGDR" (2017), equation 5, without restarts.
    """

    warm_up: float = 0.05

    def __post_init__(self) -> None:
        _check_warm_up(self.warm_up)

    def __call__(self, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
        rising = round(self.warm_up * total_steps)
        falling = CosineAnnealingLR(optimizer, max(total_steps - rising, 1))
        if not rising:
            return falling
        return SequentialLR(optimizer, [LinearLR(optimizer, 1 / (rising + 1), 1.0, rising), falling], [rising])


def _check_warm_up(share: float) -> None:
    if not 0 <= share < 1:
        raise ParityError(
            f"warm_up is the share of all steps in which the learning rate rises, 0 to below 1, not {share}."
        )
