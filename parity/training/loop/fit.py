"""The one training loop."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy

from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.training.loop import ranks
from parity.training.loop.bursts import BurstData
from parity.training.loop.checkpoints import (
    CHECKPOINTS,
    Checkpoints,
    DirectCheckpointIO,
    check_checkpoint,
    stopped_early,
)
from parity.training.loop.lit_module import BurstModule
from parity.training.loop.optimizer_steps import StepOptions
from parity.training.loop.signals import StopSignals

_REFUSED = {
    "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches", "val_check_interval",
    "check_val_every_n_epoch", "overfit_batches",
}  # fmt: skip
_OURS = {"accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"}


@dataclass(frozen=True)
class Hardware:
    """Where a run trains: nothing in here changes what it computes, but for rounding and for a batch per device."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    distributed: bool = False
    sync_batchnorm: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of Lightning's Trainer, e.g. ``fast_dev_run``."""

    @property
    def several(self) -> bool:
        """Whether processes train together, by DDP."""
        return self.distributed or self.num_nodes > 1 or self.devices not in (1, "1", "auto")


def split_trainer_args(trainer: Mapping[str, Any], track_grad_norm: bool = False) -> tuple[StepOptions, dict[str, Any]]:
    """Part a config's ``trainer`` into what a step does itself and what Lightning's Trainer is given.

    Raises:
        ParityError: a value that makes no sense, or an argument that counts Lightning's batches, which are bursts here.
    """
    if refused := sorted(_REFUSED & trainer.keys()):
        raise ParityError(f"trainer.{refused[0]} is not supported: a run is counted in epochs, validated after each.")
    if (precision := trainer.get("precision", "32-true")) in ("16-true", "bf16-true", "64-true", 16, 64):
        raise ParityError(f"trainer.precision = {precision} is not supported: 32-true, bf16-mixed and 16-mixed are.")
    if precision == "16-mixed" and (track_grad_norm or trainer.get("gradient_clip_val") is not None):
        what = "gradient_clip_val" if trainer.get("gradient_clip_val") is not None else "track_grad_norm"
        raise ParityError(f"{what} does not work with precision 16-mixed, which scales gradients: use bf16-mixed.")
    for name, most in (("max_epochs", int), ("accumulate_grad_batches", int), ("gradient_clip_val", (int, float))):
        value = trainer.get(name)
        if value is not None and (not isinstance(value, most) or isinstance(value, bool) or value <= 0):
            raise ParityError(f"trainer.{name} must be a number above 0, not {value!r}.")
    options = StepOptions(track_grad_norm=track_grad_norm, **{name: trainer[name] for name in _OURS & trainer.keys()})
    return options, {name: value for name, value in trainer.items() if name not in _OURS}


def make_trainer(hardware: Hardware, **kwargs: Any) -> pl.Trainer:
    """Return Lightning's Trainer, quiet, with what all our runs have in common.

    Raises:
        ParityError: the hardware is not there, or an argument is none of Lightning's.
    """
    _quieten()
    # DDP's own way would copy rank 0's buffers in every forward pass, even where ranks have not the same number.
    strategy = DDPStrategy(broadcast_buffers=False) if hardware.several else "auto"
    try:
        trainer = pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=strategy,
            sync_batchnorm=hardware.sync_batchnorm,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **hardware.options,
            **kwargs,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise ParityError(f"Lightning cannot train like this: {' '.join(str(error).split())}") from error
    if hardware.sync_batchnorm and trainer.strategy.root_device.type == "cpu":
        raise ParityError("PyTorch synchronises batch normalisation on GPUs only: leave out --sync_batchnorm.")
    # Signals are ours (parity.training.loop.signals); Lightning's handlers would start to communicate amid anything.
    trainer._signal_connector.register_signal_handlers = _register_nothing  # type: ignore[method-assign]
    return trainer


def _register_nothing() -> None:
    pass


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
    checkpoints = Checkpoints(checkpoints_path, checkpoint_every, stop, save_every_minutes)
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
    try:
        with stop.answered_later():
            trainer.fit(module, datamodule=BurstData(datamodule), ckpt_path=resume_from, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if resume_from is None or checkpoints.has_begun:
            raise
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ParityError(f"training cannot resume from {resume_from} ({why}).") from error
    return checkpoints


def evaluate_on_test(
    module: BurstModule, datamodule: GroupDataModule, hardware: Hardware = Hardware()
) -> dict[str, float]:
    """Evaluate on test data, once: the same metrics as during training, named 'test/...'."""
    trainer = make_trainer(hardware, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (metrics,) = trainer.test(module, datamodule=BurstData(datamodule), verbose=False)
    return {name: value for name, value in metrics.items() if name != "step"}


def _quieten() -> None:
    """Keep Lightning's greetings and advice for other loops than ours out of a run's output."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=".*in eval mode at the start of training.*"
    )  # the base model: it should be
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
    warnings.filterwarnings(
        "ignore", message=".*It is recommended to use `self.log.*sync_dist.*"
    )  # metrics are in sync
    warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")  # no validation data
    warnings.filterwarnings("ignore", message=".*sampler has shuffling enabled.*")  # a user may wish so
    warnings.filterwarnings("ignore", message=".*The `srun` command is available on your system.*")
    # Lightning makes torch ask NVML whether there is a GPU, so that forked processes can still start CUDA. Optimisers
    # ask in every step; without a GPU each answer opens a missing library, 0.1 ms or a tenth of a small network's step.
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
