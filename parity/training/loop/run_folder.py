"""Where a call of ``train_model`` keeps what it goes on with, and what it logs."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning.loggers import Logger

from parity.errors import ParityError
from parity.plain import VERSION, completed, differences, to_plain, upgraded
from parity.storage.files import DISK_IS_FULL, check_writable, disk_errors, read_json, remove_temporaries, write_json
from parity.storage.locks import RunLock
from parity.training.loggers.epoch_table import TENSORBOARD, EpochTable, tensorboard_logger
from parity.training.loop.checkpoints import check_base_model, check_checkpoint, newest_whole, stopped_early
from parity.training.loop.lit_module import BurstModule

log = logging.getLogger(__name__)

SETTINGS_FILE = "training.json"
METRICS_FILE = "metrics.csv"


class Beginning(NamedTuple):
    """Where a training begins."""

    done: int = 0
    """Epochs that are done."""
    resume_from: Path | None = None
    """The checkpoint to go on from."""
    finished: str | None = None
    """What is to be said where there is nothing left to do."""


@dataclass(frozen=True)
class Folders:
    """The two folders of a training; None for what is not kept."""

    checkpoints: Path | None
    logs: Path | None

    @classmethod
    def of(cls, checkpoints_path: str | Path | None, log_path: str | Path | None) -> "Folders":
        """Take paths as a user writes them.

        Raises:
            ParityError: they cannot be written to.
        """
        paths = [None if path is None else Path(path).expanduser() for path in (checkpoints_path, log_path)]
        for path in filter(None, paths):
            check_writable(path)
        return cls(*paths)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this block no other process writes there, and a full disk is told of in one sentence."""
        with ExitStack() as stack:
            for folder in dict.fromkeys(filter(None, (self.checkpoints, self.logs))):
                stack.enter_context(disk_errors(folder, DISK_IS_FULL))
                stack.enter_context(RunLock(folder))
                remove_temporaries(folder)
            yield

    def begin(self, module: BurstModule, settings: dict[str, Any], resume: bool) -> Beginning:
        """Find what there is to go on from; load it into the module where it is the end.

        Args:
            module: what is trained.
            settings: what the call was given.
            resume: otherwise what is there is removed.

        Raises:
            ParityError: what is there is of another training, or damaged.
        """
        if not resume:
            self._clear()
        if self.checkpoints is None:
            return Beginning()
        self._check_settings(self.checkpoints, settings)
        found = newest_whole(self.checkpoints, partial(check_checkpoint, module=module))
        beginning = Beginning() if found is None else self._beginning(module, *found, settings["max_epochs"])
        write_json(self.checkpoints / SETTINGS_FILE, {"version": VERSION, **to_plain(settings)})
        return beginning

    def _check_settings(self, folder: Path, settings: dict[str, Any]) -> None:
        """Make sure that the training in a folder, if there is one, is this one, or a shorter one of its kind."""
        if not any(folder.glob("*.ckpt")):
            return
        old = read_json(folder / SETTINGS_FILE, "a folder of train_model's checkpoints")
        old = completed(old if old.pop("version", None) else upgraded(old), settings)
        if settings["schedule"] is None:  # one is made for its number of epochs
            old["max_epochs"] = max(settings["max_epochs"], old.get("max_epochs", 0))
        if changes := list(differences(old, to_plain(settings))):
            raise ParityError(
                f"the training in {folder} was started with something else: {'; '.join(changes)}. Give this one "
                "another checkpoints_path, or start anew with resume=False."
            )

    def _beginning(self, module: BurstModule, path: Path, checkpoint: dict[str, Any], max_epochs: int) -> Beginning:
        check_base_model(checkpoint["state_dict"], module.model, path)
        done, stopped = checkpoint["epoch"] + 1, stopped_early(checkpoint)
        if done < max_epochs and stopped is None:
            return Beginning(done, path)
        module.load_state_dict(checkpoint["state_dict"])
        why = f", stopped by {stopped}" if stopped else ""
        return Beginning(done, path, f"this training is finished, after {done} epochs{why}: nothing to do ({path})")

    def _clear(self) -> None:
        """Remove what an earlier call left, and nothing else."""
        if self.checkpoints is not None:
            for path in (*self.checkpoints.glob("*.ckpt"), self.checkpoints / SETTINGS_FILE):
                path.unlink(missing_ok=True)
        if self.logs is not None:
            (self.logs / METRICS_FILE).unlink(missing_ok=True)
            shutil.rmtree(self.logs / TENSORBOARD, ignore_errors=True)

    def loggers(self, done: int) -> list[Logger]:
        """Return what writes the logs, of a training that goes on after so many epochs."""
        if self.logs is None:
            return []
        loggers: list[Logger] = [EpochTable(self.logs / METRICS_FILE, keep=done)]
        try:
            loggers.append(tensorboard_logger(self.logs, done))
        except ParityError:
            log.warning("TensorBoard is not installed (pip install 'parity[tensorboard]'): only metrics.csv is written")
        return loggers
