"""A user's own validation, after each epoch."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from torch import nn

from parity.errors import ParityError
from parity.training.loop.lit_module import BurstModule

Validate = Callable[[nn.Module], Mapping[str, float]]


class Validation(pl.Callback):
    """Calls a function after each epoch, before the policies' hooks of its end, and logs what it returns.

    Args:
        validate: called with the model in eval mode, without gradients; returns numbers by name, logged as
            ``val/<name>``. The first of them chooses the best epoch where nothing else does.
    """

    def __init__(self, validate: Validate) -> None:
        self.validate = validate
        self._names: set[str] = set()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, BurstModule)
        with torch.no_grad(), evaluating(pl_module.model):
            values = _numbers(self.validate(pl_module.model))
        if taken := sorted(values.keys() & (trainer.callback_metrics.keys() - self._names)):
            raise ParityError(f"'{taken[0]}' is logged already: let validate name it otherwise.")
        for name in self._names - values.keys():  # Lightning would keep the value of an earlier epoch
            trainer.callback_metrics.pop(name, None)
        self._names |= values.keys()
        pl_module.log_dict(values, logger=False)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.current_epoch + 1)
        pl_module.shown.update({f"val {name.removeprefix('val/')}": name for name in values})
        if pl_module.monitor is None and values:
            pl_module.monitor = next(iter(values))


def _numbers(returned: object) -> dict[str, float]:
    if not isinstance(returned, Mapping):
        raise ParityError(f"validate returns numbers by their names, not a {type(returned).__name__}.")
    try:
        return {f"val/{name}": float(value) for name, value in returned.items()}
    except (TypeError, ValueError) as error:
        raise ParityError(f"validate returns numbers by their names, not {dict(returned)!r}.") from error


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within this block the model is in eval mode; then each part of it is in the mode that it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
