"""Full precision without the hooks that nobody listens to."""

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.types import Steppable
from pytorch_lightning.plugins import Precision
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

_STEP_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class DirectPrecision(Precision):
    """32-bit precision that goes straight to ``backward`` and ``step``.

    Lightning calls every callback three times a step, to do nothing in most runs; for a small network that is a tenth
    of the step.
    """

    def pre_backward(self, tensor: Tensor, module: pl.LightningModule) -> Tensor:  # type: ignore[override]
        return tensor

    def post_backward(self, tensor: Tensor, module: pl.LightningModule) -> Tensor:  # type: ignore[override]
        return tensor

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Steppable, model: pl.LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        return optimizer.step(**kwargs)


def wants_step_hooks(callbacks: Iterable[pl.Callback]) -> bool:
    """Say whether any callback listens to what ``DirectPrecision`` leaves out."""
    return any(is_overridden(hook, callback, pl.Callback) for callback in callbacks for hook in _STEP_HOOKS)
