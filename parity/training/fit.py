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

from parity.data import GroupDataModule
from parity.errors import ParityError
from parity.models.weights import read_file
from parity.training.checkpoints import Checkpoints
from parity.training.lit_module import BurstModule, StepOptions
from parity.training.precision import DirectPrecision, wants_step_hooks

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
    distributed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of Lightning's Trainer, e.g. ``fast_dev_run``."""


def split_trainer_args(trainer: Mapping[str, Any], track_grad_norm: bool = False) -> tuple[StepOptions, dict[str, Any]]:
    """Part a config's ``trainer`` into what a step does itself and what Lightning's Trainer is given.

    Raises:
        ParityError: a value that makes no sense, or an argument that counts Lightning's batches, which are bursts here.
    """
    if refused := sorted(_REFUSED & trainer.keys()):
        raise ParityError(f"trainer.{refused[0]} is not supported: a run is counted in epochs, validated after each.")
    if (precision := trainer.get("precision", "32-true")) in ("16-true", "bf16-true", "64-true", 16, 64):
        raise ParityError(f"trainer.precision = {precision} is not supported: 32-true, bf16-mixed and 16-mixed are.")
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
    try:
        return pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy="ddp" if hardware.distributed else "auto",
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **hardware.options,
            **kwargs,
        )
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise ParityError(f"Lightning cannot train like this: {' '.join(str(error).split())}") from error


def fit(
    module: BurstModule,
    datamodule: GroupDataModule,
    folder: Path,
    trainer_args: Mapping[str, Any],
    *,
    hardware: Hardware = Hardware(),
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[pl.Callback] = (),
    checkpoint_every: int | None = None,
    resume_from: Path | None = None,
) -> Checkpoints:
    """Train until ``trainer_args["max_epochs"]``; every epoch leaves a checkpoint in ``folder / "checkpoints"``.

    Test data is read only if ``datamodule.validation_splits`` has it.

    Args:
        module: what is trained, and how its steps are taken.
        datamodule: the data.
        folder: of the run.
        trainer_args: for Lightning's Trainer.
        hardware: where.
        loggers, callbacks: of Lightning, beside the checkpoints.
        checkpoint_every: also keep the checkpoint of every so-manieth epoch.
        resume_from: a checkpoint of such a run, to go on from exactly where it was saved.

    Returns:
        The checkpoints' keeper, which knows the best epoch.

    Raises:
        ParityError: the checkpoint is damaged or foreign, or the loss is no finite number.
        KeyboardInterrupt: Ctrl-C; the last finished epoch's checkpoint is there.
    """
    if resume_from is not None:
        check_checkpoint(resume_from, module)
    checkpoints = Checkpoints(folder / "checkpoints", module.monitor, checkpoint_every)
    plugins = []
    if trainer_args.get("precision", "32-true") == "32-true" and not wants_step_hooks(callbacks):
        plugins.append(DirectPrecision())
        trainer_args = {name: value for name, value in trainer_args.items() if name != "precision"}
    trainer = make_trainer(
        hardware,
        plugins=plugins,
        logger=list(loggers) or False,
        callbacks=[*callbacks, checkpoints],
        enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        default_root_dir=folder,
        **trainer_args,
    )
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume_from, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    return checkpoints


def evaluate_on_test(
    module: BurstModule, datamodule: GroupDataModule, hardware: Hardware = Hardware()
) -> dict[str, float]:
    """Evaluate on test data, once: the same metrics as during training, named 'test/...'."""
    trainer = make_trainer(hardware, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (metrics,) = trainer.test(module, datamodule=datamodule, verbose=False)
    return {name: value for name, value in metrics.items() if name != "step"}


def check_checkpoint(path: Path, module: BurstModule | None = None) -> dict[str, Any]:
    """Read a checkpoint and make sure that it is one of ours, and of this module's model.

    Raises:
        ParityError: it is missing, damaged, holds code, is of another kind, or of a model of other shapes.
    """
    checkpoint = read_file(path)
    kinds = {"epoch": int, "state_dict": dict, "optimizer_states": list, "loops": dict, "callbacks": dict}
    for key, kind in kinds.items():
        if not isinstance(checkpoint.get(key), kind):
            raise ParityError(f"{path} is no whole checkpoint of a parity run: it has no '{key}'.")
    if not checkpoint["optimizer_states"] or Checkpoints.__name__ not in checkpoint["callbacks"]:
        raise ParityError(f"{path} is no whole checkpoint of a parity run: what training goes on with is missing.")
    if module is not None:
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
        if expected != found:
            name = sorted(set(expected.items()) ^ set(found.items()))[0][0]
            raise ParityError(
                f"{path} is a checkpoint of another model: '{name}' has shape {found.get(name, 'none')} there, "
                f"expected {expected.get(name, 'none')}."
            )
    return checkpoint


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
    # Lightning makes torch ask NVML whether there is a GPU, so that forked processes can still start CUDA. Optimisers
    # ask in every step; without a GPU each answer opens a missing library, 0.1 ms or a tenth of a small network's step.
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
