"""What a run is resumed from, so that it ends as an uninterrupted one would."""

import logging
import math
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.errors import DamagedFileError, ParityError, did_you_mean
from parity.metrics import less_is_better
from parity.models.weights import read_file, seal
from parity.storage.fences import check_held, is_lost
from parity.storage.files import rename, written_whole
from parity.training.loop import ranks
from parity.training.loop.bursts import validation_loaders
from parity.training.loop.lit_module import BurstModule
from parity.training.loop.random_states import put_random_states, random_states, set_random_states
from parity.training.loop.signals import StopSignals

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""In a run's folder: that of its checkpoints."""

RUN = "run"
"""In a checkpoint: the identity of the run that saved it, as plain settings."""

_UNKNOWN = ""
"""What the best epoch was chosen by, in checkpoints that do not have it."""

_NOTHING, _SAVE, _STOP, _LOST = range(4)

_STEPS = "epoch_loop.manual_optimization.optim_step_progress"
"""Lightning's name for the state of its counter of optimiser steps."""


class Checkpoints(Checkpoint):
    """Saves ``last.ckpt`` after every epoch, ``best.ckpt`` where a metric is higher than ever, ``epoch_<N>.ckpt``.

    Each appears whole or not at all. ``last.ckpt`` comes last: a run that is cut off between them repeats the epoch.
    The one before it stays as ``previous.ckpt``. Within an epoch too it is saved: when a signal has come, which ends
    the run, and every few minutes in long epochs. It holds what every rank needs to resume exactly there: the random
    generators' states and what it has counted so far.

    The best epoch is the one of the highest ``module.monitor``, or of the lowest where ``less_is_better`` of its name.

    Args:
        folder: where they go; None saves nothing.
        every: keep ``epoch_<N>.ckpt`` every N epochs; None keeps none.
        stop: hears the signals that end a run.
        minutes: save within an epoch too, when the last checkpoint is this old; None never does.
        run: the identity of the run, which each checkpoint carries.
    """

    def __init__(
        self,
        folder: Path | None,
        every: int | None,
        stop: StopSignals,
        minutes: float | None = None,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.run = run
        self.folder, self.every = folder, every
        self.stop, self.minutes = stop, minutes
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        """Epoch of ``best.ckpt``, counted from 1."""
        self._monitor: str | None = None
        self._ranks: list[dict[str, Any]] = []
        self._loops: dict[str, Any] = {}
        self._epoch_is_open = self._within_epoch = False
        self._saved_at = 0.0
        self.has_begun = False
        """Whether training has begun: everything has accepted what it is resumed from then."""
        self.has_trained = False
        """Whether the steps of a burst were taken: the model, its loss and its data fit each other then."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, BurstModule)
        self._saved_at = time.monotonic()
        self._loops = self._loops or _loops_before_any_epoch(trainer)
        if self.folder is not None and not (self.folder / "best.ckpt").exists():
            self.best_value = None  # resumed from another folder's checkpoint
        if self._ranks:
            _set_rank_state(self._own_state(), pl_module)

    def _is_compared_by(self, monitor: str | None) -> bool:
        """Whether the best value so far, of a run that is resumed, is one of what is monitored now."""
        if self._monitor == _UNKNOWN:  # an older checkpoint, in which a loss was what is called exactly that
            return monitor is None or less_is_better(monitor) == monitor.endswith("/loss")
        return monitor is None or self._monitor == monitor

    def _own_state(self) -> dict[str, Any]:
        if len(self._ranks) == ranks.world_size():
            return self._ranks[ranks.rank()]
        then_and_now = f"by {len(self._ranks)} processes, and these are {ranks.world_size()}"
        if self._ranks[0]["epoch"] is not None:
            raise ParityError(
                f"the checkpoint was saved within an epoch {then_and_now}: resume it with as many as then."
            )
        if ranks.rank() == 0:
            log.warning("the run was trained %s: it is resumed, but not as it would have continued", then_and_now)
        return self._ranks[0]

    def on_train_batch_start(self, *_: object) -> None:
        self.has_begun = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.has_trained = True
        self._save_if_asked(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx < validation_loaders(trainer)[dataloader_idx].common_bursts:
            self._save_if_asked(trainer, pl_module)

    def _save_if_asked(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wish = _NOTHING
        if self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes:
            wish = _SAVE
        if self.stop.received is not None:
            wish = _STOP
        if is_lost(self.folder):
            wish = _LOST
        wish = ranks.highest(wish)
        if wish == _NOTHING:
            return
        assert isinstance(pl_module, BurstModule)
        if wish == _LOST:
            ranks.on_first(self._check_held)
        if self._saves(trainer) and pl_module.step_losses:
            pl_module.check_losses()
            self._save_unfinished(trainer, pl_module, within_epoch=True)
            if ranks.rank() == 0:
                log.info("saved after step %d of epoch %d", len(pl_module.step_losses), trainer.current_epoch + 1)
        if wish == _STOP:
            self.stop.end()

    def _check_held(self) -> None:
        if self.folder is not None:
            check_held(self.folder)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, BurstModule)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            return
        epoch = trainer.current_epoch + 1
        value = _monitored(trainer, pl_module.monitor, self.best_epoch is not None)
        names = [f"epoch_{epoch}.ckpt"] if self.every and epoch % self.every == 0 else []
        if self.best_value is not None and not self._is_compared_by(pl_module.monitor):
            log.warning(
                "the best epoch was chosen by %s, and is by %s now: it will be the best of the epochs to come",
                self._monitor or "nothing", pl_module.monitor,
            )  # fmt: skip
            self.best_value = None
        self._monitor = pl_module.monitor
        if pl_module.monitor is None or _is_better(value, self.best_value):
            self.best_value, self.best_epoch = value, epoch
            names.append("best.ckpt")
        if self._saves(trainer):
            self._save(trainer, pl_module, names)
        if ranks.highest(int(self.stop.received is not None)):
            self.stop.end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, BurstModule)
        if pl_module.ended_before_an_epoch and self._saves(trainer):
            self._save_unfinished(trainer, pl_module, within_epoch=False)

    def _saves(self, trainer: pl.Trainer) -> bool:
        return self.folder is not None and not trainer.fast_dev_run  # type: ignore[attr-defined]

    def _save_unfinished(self, trainer: pl.Trainer, pl_module: BurstModule, within_epoch: bool) -> None:
        """Save while an epoch has begun, within it or as if it had not."""
        self._epoch_is_open, self._within_epoch = True, within_epoch
        self._save(trainer, pl_module, [])
        self._epoch_is_open = self._within_epoch = False

    def _save(self, trainer: pl.Trainer, pl_module: BurstModule, names: list[str]) -> None:
        assert self.folder is not None, "there is where to save"
        self._ranks = ranks.gather(_rank_state(pl_module, self._within_epoch))
        last = self.folder / "last.ckpt"
        if ranks.rank() != 0:
            trainer.save_checkpoint(last)  # waits for rank 0, writes nothing
        ranks.on_first(lambda: self._write(trainer, last, names))
        self._saved_at = time.monotonic()

    def _write(self, trainer: pl.Trainer, last: Path, names: list[str]) -> None:
        is_saved = False
        try:
            with written_whole(last) as whole:
                trainer.save_checkpoint(whole)
                is_saved = True
                for name in names:
                    _also_as(whole, last.with_name(name))
                if last.exists():
                    _also_as(last, last.with_name("previous.ckpt"))
        except BaseException:
            if not is_saved:
                trainer.strategy.barrier()  # where the other ranks are
            raise

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.run is not None:
            checkpoint[RUN] = dict(self.run)
        # To Lightning, a run that is resumed within an epoch begins that epoch; bursts already trained on come empty.
        if self._epoch_is_open:
            steps = checkpoint["loops"]["fit_loop"][_STEPS]
            checkpoint["loops"], checkpoint["epoch"] = deepcopy(self._loops), trainer.current_epoch - 1
            checkpoint["loops"]["fit_loop"][_STEPS] = steps
        else:
            self._loops = deepcopy(checkpoint["loops"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loops = deepcopy(checkpoint["loops"])

    def state_dict(self) -> dict[str, Any]:
        best = {"best_value": self.best_value, "best_epoch": self.best_epoch, "monitor": self._monitor}
        return {**best, "ranks": self._ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        self._monitor = state_dict.get("monitor", _UNKNOWN)
        self._ranks = state_dict["ranks"]


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint straight into its file: Lightning's own makes a second copy in memory and one in /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        with Path(path).open("w+b") as file:
            try:
                torch.save(checkpoint, file)
                seal(file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # of the disk
                    raise error.__context__ from error
                raise


def check_logged(module: BurstModule, monitor: str | None, validation_splits: Sequence[str]) -> None:
    """Refuse, before training, to choose the best epoch by what is not logged.

    Args:
        module: that logs.
        monitor: logged name; None for none.
        validation_splits: what it is validated on.

    Raises:
        ParityError: nothing is logged by that name; the closest one is in the message.
    """
    if monitor is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchmetrics: nothing was counted
        names = ["loss", *deepcopy(module.metrics["train"].accuracy).compute()]
    logged = [f"{split}/{name}" for split in ("train", *validation_splits) for name in names]
    _check_known(monitor, [*logged, *(["train/grad_norm"] if module.options.track_grad_norm else [])])


def _check_known(monitor: str, logged: Collection[str]) -> None:
    if monitor not in logged:
        raise ParityError(f"nothing is logged as '{monitor}': {did_you_mean(monitor, logged)}")


def _is_better(value: float, best: float | None) -> bool:
    """Whether an epoch is the best so far: NaN is worse than any number."""
    return best is None or value > best or (math.isnan(best) and not math.isnan(value))


def _monitored(trainer: pl.Trainer, monitor: str | None, once: bool) -> float:
    """Return what the epoch is compared by: more is better.

    Args:
        trainer: that has logged it.
        monitor: its name.
        once: whether an earlier epoch had it; one without it is worse than any other then.
    """
    if monitor is None:
        return 0.0
    if once and monitor not in trainer.callback_metrics:
        return math.nan
    _check_known(monitor, trainer.callback_metrics)
    value = float(trainer.callback_metrics[monitor])
    return -value if less_is_better(monitor) else value


def _also_as(whole: Path, path: Path) -> None:
    with written_whole(path) as temporary:
        try:
            os.link(whole, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(whole, temporary)


def _loops_before_any_epoch(trainer: pl.Trainer) -> dict[str, Any]:
    return deepcopy({"fit_loop": trainer.fit_loop.state_dict(), "validate_loop": trainer.validate_loop.state_dict()})


def _rank_state(module: BurstModule, within_epoch: bool) -> dict[str, Any]:
    buffers = {}
    if within_epoch and ranks.world_size() > 1:  # as batch normalisation's, which ranks have their own of
        buffers = {name: buffer.cpu() for name, buffer in module.model.named_buffers()}
    return {
        "random": random_states(),
        "epoch": module.epoch_state() if within_epoch else None,
        "buffers": buffers,
    }


def _set_rank_state(state: dict[str, Any], module: BurstModule) -> None:
    set_random_states(state["random"])
    for name, buffer in module.model.named_buffers():
        if name in state["buffers"]:
            buffer.copy_(state["buffers"][name])
    if state["epoch"] is not None:
        module.resume_epoch(state["epoch"])


def newest_whole(
    folder: Path, check: Callable[[Path], dict[str, Any]], remedy: str
) -> tuple[Path, dict[str, Any]] | None:
    """Find the checkpoint to resume from: ``last.ckpt``, or where that is damaged, the newest of the others.

    Damaged ones that are newer are set aside by name, with a warning.

    Args:
        folder: of checkpoints.
        check: reads one.
        remedy: what a user can do where all are damaged.

    Returns:
        Its path and content; None where there are none at all.

    Raises:
        ParityError: all are damaged; nothing is renamed then.
    """
    paths = [path for path in folder.glob("*.ckpt") if not path.name.startswith(".")]
    order = ("last.ckpt", "previous.ckpt")
    paths.sort(key=lambda path: (order.index(path.name) if path.name in order else 2, -_modified(path), path.name))
    damaged = []
    for path in paths:
        try:
            content = check(path)
        except DamagedFileError as error:
            damaged.append((path, error))
            continue
        for bad, why in damaged:
            aside = _free_name(bad)
            rename(bad, aside.name)
            log.warning("%s It was set aside as %s; resuming from %s.", why, aside.name, path.name)
        return path, content
    if damaged:
        names = ", ".join(path.name for path, _ in damaged)
        raise ParityError(f"every checkpoint in {folder} is damaged ({names}): nothing was deleted. {remedy}")
    return None


def restore_best(folder: Path, newest: dict[str, Any], check: Callable[[Path], dict[str, Any]]) -> None:
    """Make sure that ``best.ckpt`` is that of the best epoch so far; else take another checkpoint of that epoch for it.

    Where there is none any more, the best one of the epochs to come will be the best; a warning names what is lost.

    Args:
        folder: of checkpoints.
        newest: the content of the one that is resumed from.
        check: reads one.
    """
    best, epoch = folder / "best.ckpt", newest["callbacks"][Checkpoints.__name__]["best_epoch"]
    if epoch is None:
        return
    why = f"{best} is missing."
    if os.path.lexists(best):
        try:
            check(best)
        except ParityError as error:
            aside = _free_name(best)
            rename(best, aside.name)
            why = f"{error} It was set aside as {aside.name}."
        else:
            return
    for path in folder.glob("*.ckpt"):
        with suppress(ParityError):
            content = check(path)
            if content["epoch"] + 1 == epoch and not steps_within_epoch(content):
                _also_as(path, best)
                log.warning("%s %s is of the same epoch, %d, and is the best checkpoint now.", why, path.name, epoch)
                return
    log.warning(
        "%s No other checkpoint is of its epoch, %d: the best of the epochs to come will be the best one. Where none "
        "is to come, copy another one as best.ckpt, and give the same command again.", why, epoch,
    )  # fmt: skip


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0  # a link to nothing


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    return aside


def check_saving(every: int | None, minutes: float | None) -> None:
    """Refuse a number of epochs, or of minutes, after which nothing can be saved.

    Raises:
        ParityError: it is not above 0.
    """
    if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
        raise ParityError(f"checkpoint_every must be 1 or more, not {every!r:.60}: give a whole number of epochs.")
    if minutes is not None and (not isinstance(minutes, int | float) or isinstance(minutes, bool) or not minutes > 0):
        raise ParityError(f"save_every_minutes must be above 0, not {minutes!r:.60}.")


def check_checkpoint(path: Path, module: BurstModule | None = None) -> dict[str, Any]:
    """Read a checkpoint and make sure that it is one of ours, and one that this module can be resumed from.

    Raises:
        ParityError: it is missing, holds code, or is of a model of other shapes.
        DamagedFileError: it is damaged, or of another kind.
    """
    checkpoint = read_file(path)
    what = f"{path} is not a whole checkpoint of a parity run"
    kinds = {"epoch": int, "state_dict": dict, "optimizer_states": list, "loops": dict, "callbacks": dict}
    for key, kind in kinds.items():
        if not isinstance(checkpoint.get(key), kind):
            raise DamagedFileError(f"{what}: it has no '{key}'.")
    own = checkpoint["callbacks"].get(Checkpoints.__name__)
    if not checkpoint["optimizer_states"] or not isinstance(own, dict) or not own.get("ranks"):
        raise DamagedFileError(f"{what}: what training is resumed from is missing.")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in checkpoint["state_dict"].items()):
        raise DamagedFileError(f"{what}: its 'state_dict' holds more than tensors by name.")
    if not isinstance(checkpoint.get(RUN, {}), dict):
        raise DamagedFileError(f"{what}: its '{RUN}' is not a run's identity.")
    if module is not None:
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        if expected != found:
            name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise ParityError(
                f"{path} is a checkpoint of another model: '{name}' has shape {found.get(name, 'none')} there, "
                f"expected {expected.get(name, 'none')}; train in another folder, or restart there without resuming."
            )
        try:
            _check_progress(checkpoint)
            _check_optimizer(checkpoint["optimizer_states"][0], module, path)
            module.check_state(checkpoint)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DamagedFileError(f"{what}: what training is resumed from is malformed ({why}).") from error
    return checkpoint


def _check_progress(checkpoint: dict[str, Any]) -> None:
    if not isinstance(checkpoint["global_step"], int) or not isinstance(checkpoint["lr_schedulers"], list):
        raise TypeError("no number of steps, or no schedules")
    for name in ("fit_loop", "validate_loop"):
        if not isinstance(checkpoint["loops"][name], dict):
            raise TypeError(f"no loop '{name}'")
    if checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"] != checkpoint["epoch"] + 1:
        raise ValueError("its epoch is not that of its loops")
    own = checkpoint["callbacks"][Checkpoints.__name__]
    if own["best_epoch"] is not None:
        float(own["best_value"])
    if not own["ranks"]:
        raise ValueError("it is of no process")
    for rank in own["ranks"]:
        if not {"epoch", "buffers"} <= rank.keys() or "cuda" not in rank["random"]:
            raise KeyError("epoch, buffers or cuda")
        put_random_states(rank["random"], random.Random(), np.random.RandomState(), torch.Generator())


_SHAPED_AS_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def _check_optimizer(state: dict[str, Any], module: BurstModule, path: Path) -> None:
    groups = module.optimizer_factory(list(module.trainable_parameters())).param_groups
    numbers = [len(group["params"]) for group in groups]
    if numbers != (found := [len(group["params"]) for group in state["param_groups"]]):
        raise _of_other_parameters(path, f"it trained {sum(found)} tensors, and {sum(numbers)} are to be trained now")
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, values in state["state"].items():
        for name in values.keys() & set(_SHAPED_AS_PARAMETER):
            shape = None if values[name] is None else tuple(values[name].shape)
            if shape not in (None, expected := tuple(parameters[number].shape)):
                what = (
                    f"tensor {number + 1} that it trained has shape {shape}, and the one that is trained now {expected}"
                )
                raise _of_other_parameters(path, what)


def _of_other_parameters(path: Path, what: str) -> ParityError:
    return ParityError(
        f"{path} is of a training of other parameters ({what}): give the same ones requires_grad, train in another "
        "folder, or restart there without resuming."
    )


def model_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's part of a LightningModule's state dict."""
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def stopped_early(checkpoint: dict[str, Any]) -> str | None:
    """Return why a policy has ended the run that saved a checkpoint; None where the run continues from there."""
    finished = checkpoint["callbacks"][Checkpoints.__name__]["ranks"][0]["epoch"] is None
    return checkpoint["policies"]["stopped"] if finished and "policies" in checkpoint else None


def check_base_model(state: dict[str, Tensor], model: nn.Module, source: Path) -> None:
    """Make sure that a checkpoint was trained for this very base model.

    Raises:
        ParityError: the base model's weights differ.
    """
    if not isinstance(model, CodedModel):
        return
    for name, value in model.base_model.state_dict().items():
        if not torch.equal(state[f"model.base_model.{name}"], value.cpu()):
            raise ParityError(
                f"{source} was trained for a base model of other weights ('{name}' differs): train in another folder, "
                "or restart there without resuming."
            )


def steps_within_epoch(checkpoint: dict[str, Any]) -> int:
    """Return how many steps of an unfinished epoch a checkpoint has; 0 if it was saved at an epoch's end."""
    epoch = checkpoint["callbacks"][Checkpoints.__name__]["ranks"][0]["epoch"]
    return 0 if epoch is None else len(epoch["groups"])
