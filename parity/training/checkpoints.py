"""What a run leaves to go on from, so that it ends as an uninterrupted one would."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from parity.training.files import written_whole


class Checkpoints(Checkpoint):
    """Saves ``last.ckpt`` after every epoch, ``best.ckpt`` where a metric is higher than ever, ``epoch_<N>.ckpt``.

    Each appears whole or not at all. ``last.ckpt`` comes last: a run that is cut off between them repeats the epoch.
    The random generators' states are saved too, and set again where training goes on.

    Args:
        folder: where they go.
        monitor: name of a logged validation metric, of which more is better.
        every: keep ``epoch_<N>.ckpt`` of every so-manieth epoch; None keeps none.
    """

    def __init__(self, folder: Path, monitor: str, every: int | None = None) -> None:
        super().__init__()
        self.folder, self.monitor, self.every = folder, monitor, every
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        """Epoch of ``best.ckpt``, counted from 1."""
        self._random: dict[str, Any] | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it from outside the class
            return
        epoch = trainer.current_epoch + 1
        value = float(trainer.callback_metrics[self.monitor])
        names = [f"epoch_{epoch}.ckpt"] if self.every and epoch % self.every == 0 else []
        if self.best_value is None or value > self.best_value:
            self.best_value, self.best_epoch = value, epoch
            names.append("best.ckpt")
        last = self.folder / "last.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(last)  # takes part in gathering, writes nothing
        else:
            with written_whole(last) as whole:
                trainer.save_checkpoint(whole)
                self._also_as(whole, names)
        trainer.strategy.barrier()

    def _also_as(self, whole: Path, names: list[str]) -> None:
        for name in names:
            with written_whole(self.folder / name) as temporary:
                try:
                    os.link(whole, temporary)
                except OSError:  # a file system without links
                    shutil.copyfile(whole, temporary)

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "random": random_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        self._random = state_dict["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not (self.folder / "best.ckpt").exists():
            self.best_value = None  # going on from another folder's checkpoint
        if self._random is not None:
            set_random_states(self._random)
            self._random = None


def random_states() -> dict[str, Any]:
    """Return the states of all random generators, as plain types and tensors."""
    algorithm, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (algorithm, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set all random generators to what ``random_states`` returned."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
