"""The one training loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger

from parity.data import GroupDataModule
from parity.errors import ParityError, cause
from parity.models.layout import lay_out
from parity.training.loop import ranks
from parity.training.loop.bursts import BurstData
from parity.training.loop.checkpoints import (
    CHECKPOINTS,
    Checkpoints,
    DirectCheckpointIO,
    check_checkpoint,
    stopped_early,
)
from parity.training.loop.hardware import Hardware, make_trainer
from parity.training.loop.lit_module import BurstModule
from parity.training.loop.signals import StopSignals


def fit(
    module: BurstModule,
    datamodule: GroupDataModule,
    folder: Path | None,
    trainer_args: Mapping[str, Any],
    *,
    hardware: Hardware = Hardware(),
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
    checkpoints_path: Path | None = None,
    checkpoint_every: int | None = None,
    save_every_minutes: float | None = None,
    resume_from: Path | None = None,
    stop: StopSignals | None = None,
    run: Mapping[str, Any] | None = None,
) -> Checkpoints:
    """Train until ``trainer_args["max_epochs"]``; every epoch leaves a checkpoint in ``folder / "checkpoints"``.

    Test data is read only if ``datamodule.validation_splits`` has it. A policy of the module may end training earlier;
    resuming from there does not train further.

    Args:
        module: what is trained, and how its steps are taken.
        datamodule: the data.
        folder: of the run; None saves nothing.
        trainer_args: for Lightning's Trainer.
        hardware: where.
        loggers, callbacks: of Lightning, beside the checkpoints.
        checkpoints_path: where checkpoints go; by default the folder's ``checkpoints``.
        checkpoint_every: also keep a checkpoint every N epochs.
        save_every_minutes: also save within an epoch, this many minutes after the last time.
        resume_from: a checkpoint of such a run, to resume exactly where it was saved.
        stop: hears signals; by default nothing does.
        run: the run's identity, as plain settings, which each checkpoint carries.

    Returns:
        The checkpoints' keeper, which knows the best epoch.

    Raises:
        ParityError: the checkpoint is damaged or foreign, the loss is not finite, or the disk is full.
        Stopped: ``stop`` heard a signal; a checkpoint was saved where training stopped.
        KeyboardInterrupt: Ctrl-C, if nothing hears signals; the last finished epoch's checkpoint is there.
    """
    if resume_from is not None:
        checkpoint = check_checkpoint(resume_from, module)
        if stopped_early(checkpoint):
            trainer_args = {**trainer_args, "max_epochs": checkpoint["epoch"] + 1}
    stop = stop or StopSignals()
    checkpoints_path = checkpoints_path or (folder / CHECKPOINTS if folder is not None else None)
    checkpoints = Checkpoints(checkpoints_path, checkpoint_every, stop, save_every_minutes, run)
    trainer = make_trainer(
        hardware,
        plugins=[DirectCheckpointIO()],
        logger=list(loggers) or False,
        callbacks=[*callbacks, checkpoints],
        enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        default_root_dir=checkpoints_path,
        **trainer_args,
    )
    ranks.join(trainer)
    device = trainer.strategy.root_device
    lay_out(module.model, device)
    try:
        with stop.answered_later():
            trainer.fit(module, datamodule=BurstData(datamodule), ckpt_path=resume_from, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except torch.OutOfMemoryError as error:
        raise ParityError(
            f"the memory of {device} is too small for this training: choose a smaller batch size or mixed precision; "
            f"what was saved is as it was ({cause(error).rstrip('.')})."
        ) from error
    except Exception as error:  # of torch, of Lightning or of a user's own objects
        if checkpoints.has_trained or isinstance(error, ParityError | OSError):
            raise
        if resume_from is None or checkpoints.has_begun:
            raise ParityError(f"training cannot start: {cause(error)}") from error
        raise ParityError(f"training cannot resume from {resume_from}: {cause(error)}") from error
    return checkpoints
