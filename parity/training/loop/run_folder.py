"""The folder of a run: what lies where, who writes there, which run it is and what it is resumed from."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from pytorch_lightning.loggers import Logger

from parity.errors import ParityError, did_you_mean
from parity.plain import VERSION, changes, completed, to_plain, upgraded
from parity.schema import Field
from parity.settings import user_path
from parity.storage.files import (
    DISK_IS_FULL,
    check_writable,
    disk_errors,
    read_json,
    remove,
    remove_temporaries,
    write_json,
)
from parity.storage.locks import RunLock
from parity.training.loggers.epoch_table import (
    TENSORBOARD,
    EpochTable,
    drop_test_metrics,
    is_epoch_table,
    tensorboard_logger,
)
from parity.training.loggers.wandb_logger import WANDB_ID_FILE
from parity.training.loop import ranks
from parity.training.loop.checkpoints import (
    CHECKPOINTS,
    RUN,
    check_base_model,
    check_checkpoint,
    newest_whole,
    restore_best,
    steps_within_epoch,
    stopped_early,
)
from parity.training.loop.lit_module import BurstModule
from parity.versions import code_version

CONFIG_FILE = "config.json"
TRAINING_FILE = "training.json"
MADE_WITH = "made_with"
METRICS_FILE = "metrics.csv"
TEST_FILE = "test_metrics.json"

_OWN_CHECKPOINT = re.compile(r"(best|last|previous|epoch_\d+)\.ckpt(\.damaged\d+)?")

_IDENTITY = {"version": Field((int,), 1, VERSION, needed=False)}
_TESTED = {
    "epoch": Field((int,), 0, needed=False),
    "metrics": Field((dict,), values=Field((int, float))),
}


@dataclass(frozen=True)
class Identity:
    """What makes a run this run: one begun with other settings is not resumed.

    Args:
        settings: nested, objects and all.
        epochs: path of the number of epochs in them, as 'config.trainer.max_epochs'.
        extends: whether a run of fewer epochs may be resumed.
        not_compared: paths of settings that change no number.
        defaults: settings that older runs need not have.
    """

    settings: Mapping[str, Any]
    epochs: str
    extends: bool
    not_compared: Set[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the content of the file that keeps it."""
        plain: dict[str, Any] = json.loads(json.dumps({"version": VERSION, **to_plain(self.settings)}))
        return plain  # a checkpoint carries it, and numpy's numbers could not be loaded without code

    def without(self, path: str) -> "Identity":
        """Return this identity with a setting that is not known yet, and not compared."""
        return replace(self, not_compared=self.not_compared | {path})

    def check_checkpoint(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """Make sure that a checkpoint was saved by this run; one that does not carry its run's identity may be.

        Raises:
            ParityError: it was saved by a run with other settings.
        """
        own = self.without(self.epochs) if self.extends else self  # of a longer run it may be, if it is not too far
        if (stored := checkpoint.get(RUN)) is not None and (found := own.differences(stored)):
            raise ParityError(f"{path} was saved by a run with other settings: {'; '.join(found)}.")

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """Return what keeps a run of stored settings from being resumed, a line each: 'code.k: 2 -> 3'."""
        version = stored.get("version", 1)
        old = completed(stored, self.settings, self.defaults, version if isinstance(version, int) else VERSION)
        found = changes(old, self.plain(), {"version", MADE_WITH, *self.not_compared})
        return [str(change) for change in found if change.path != self.epochs or not self._is_longer(*change[1:])]

    def _is_longer(self, old: object, new: int) -> bool:
        return self.extends and isinstance(old, int) and old < new


class Start(NamedTuple):
    """Where a training starts."""

    checkpoint: Path | None = None
    """What it is resumed from."""
    epochs: int = 0
    """Epochs that are finished."""
    steps: int = 0
    """Steps that are finished beyond them."""
    stopped: str | None = None
    """The policy that has ended it."""

    @classmethod
    def at(cls, path: Path, checkpoint: dict[str, Any], module: BurstModule, identity: Identity) -> Self:
        """Return the start from a checkpoint, read from a path, of this module.

        Raises:
            ParityError: it was saved by a run with other settings, or trained for another base model.
        """
        check_base_model(checkpoint["state_dict"], module.model, path)
        identity.check_checkpoint(path, checkpoint)
        return cls(path, checkpoint["epoch"] + 1, steps_within_epoch(checkpoint), stopped_early(checkpoint))

    def is_end(self, max_epochs: int) -> bool:
        """Whether nothing is left to train."""
        return self.checkpoint is not None and (self.epochs >= max_epochs or self.stopped is not None)

    def finished(self) -> str:
        """Return the number of epochs in words, and what has stopped training."""
        return f"after {self.epochs} epochs" + (f", stopped by {self.stopped}" if self.stopped else "")


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its checkpoints, its logs, its identity and its test metrics; None for what it does not keep.

    Args:
        checkpoints: the folder of ``last.ckpt``, ``best.ckpt``, ...
        logs: the folder of ``metrics.csv`` and of TensorBoard's files.
        identity_file: JSON, written when the run begins.
        test_file: JSON, written when the run is finished.
        remedy: what a user can do who wants to train something else.
    """

    checkpoints: Path | None = None
    logs: Path | None = None
    identity_file: Path | None = None
    test_file: Path | None = None
    remedy: str = "Give this one another --run_name, or start over with --force-no-resume."

    @classmethod
    def of_experiment(cls, folder: Path) -> Self:
        """Return the folder of an experiment's run, which holds all of it."""
        return cls(folder / CHECKPOINTS, folder, folder / CONFIG_FILE, folder / TEST_FILE)

    @classmethod
    def of_paths(cls, checkpoints_path: str | Path | None, log_path: str | Path | None) -> Self:
        """Return the two folders of ``train_model``, as a user writes them."""
        checkpoints, logs = (None if path is None else user_path(path) for path in (checkpoints_path, log_path))
        identity_file = None if checkpoints is None else checkpoints / TRAINING_FILE
        remedy = "Give this one another checkpoints_path, or start over with resume=False."
        return cls(checkpoints, logs, identity_file, remedy=remedy)

    @property
    def _locked(self) -> list[Path]:
        own = None if self.identity_file is None else self.identity_file.parent
        return [own] if own and _same(own, self.logs) else list(filter(None, (own, self.logs)))

    def check_writable(self) -> None:
        """Make sure that files can be written there, over no file of somebody else's.

        Raises:
            ParityError: they cannot.
        """
        for folder in {*self._locked, *filter(None, [self.checkpoints])}:
            check_writable(folder)
        if self.logs is None or self._logs_are_own or not os.path.lexists(table := self.logs / METRICS_FILE):
            return
        if self.test_file is None and not is_epoch_table(table):
            raise ParityError(f"{table} is not a table of train_model's, and would be overwritten: move it away.")

    @contextmanager
    def held(self, wait: bool = False) -> Iterator[None]:
        """Within this block no other process writes there, and a full disk is reported in one sentence.

        Args:
            wait: for another process that does, instead of raising.

        Raises:
            ParityError: another process writes there.
        """
        with ExitStack() as stack:
            for folder in self._locked:
                stack.enter_context(disk_errors(folder, DISK_IS_FULL))
            ranks.on_first(lambda: self._lock(stack, wait))
            yield

    def _lock(self, stack: ExitStack, wait: bool) -> None:
        for folder in self._locked:
            own = self.checkpoints is not None and folder == self._locked[0]
            also = [self.checkpoints] if own and self.checkpoints else []
            lock = RunLock(folder, wait, also, "--run_name" if self.test_file else "checkpoints_path or log_path")
            stack.enter_context(lock)
            for written in lock.fence.folders:
                remove_temporaries(written)

    def has_identity(self) -> bool:
        """Whether a run was begun there."""
        return self.identity_file is not None and self.identity_file.exists()

    def stored_settings(self) -> dict[str, Any] | None:
        """Return the plain settings of the run that has begun there, in today's form; None where none has.

        Raises:
            ParityError: they are missing or damaged.
        """
        if self.checkpoints is None or self.identity_file is None or not any(self.checkpoints.glob("*.ckpt")):
            return None
        if self.identity_file.name == CONFIG_FILE and not self.has_identity():
            return None  # checkpoints that were copied without it
        stored = read_json(self.identity_file, "a folder of train_model's checkpoints", _IDENTITY)
        return stored if "version" in stored else upgraded(stored)

    def check(self, identity: Identity) -> None:
        """Make sure that the run that has begun there, if one has, is this one, or a shorter one of its kind.

        Raises:
            ParityError: it was started with other settings; the differences are in the message.
        """
        stored = self.stored_settings()
        if stored is None or self.identity_file is None:
            return
        folder = self.identity_file.parent
        for name, value in identity.settings.items():
            if isinstance(value, Mapping) and not isinstance(stored.get(name), dict):
                raise ParityError(f"{self.identity_file} is damaged: it holds no '{name}'. Move {folder} away.")
        if found := identity.differences(stored):
            raise ParityError(f"the run in {folder} was started with other settings: {'; '.join(found)}. {self.remedy}")

    def find(self, identity: Identity, module: BurstModule) -> Start:
        """Find the checkpoint that a run is resumed from; damaged ones that are newer are set aside.

        Raises:
            ParityError: what is there is another run's, or damaged.
        """
        if self.checkpoints is None:
            return Start()
        self.check(identity)
        check = partial(check_checkpoint, module=module)
        found = newest_whole(self.checkpoints, check, self.remedy)
        if found is None:
            return Start()
        start = Start.at(*found, module, identity)
        restore_best(self.checkpoints, found[1], check)
        return start

    def begin(self, identity: Identity, restart: bool, keep_tests: bool = False) -> None:
        """Write down which run this is.

        Args:
            identity: of the run.
            restart: remove what an earlier run left.
            keep_tests: leave the table its test metrics where a finished run is extended: every epoch has them.
        """
        if restart:
            self._clear()
        elif self.is_finished():
            if self.logs is not None and not keep_tests:
                drop_test_metrics(self.logs / METRICS_FILE)
            for path in self._evaluations():
                remove(path)
        if self.identity_file is not None:
            write_json(self.identity_file, identity.plain() | {MADE_WITH: code_version()})
        if self.test_file is not None:
            remove(self.test_file)  # it is of a shorter run

    def _clear(self) -> None:
        """Remove what an earlier run left, and nothing else.

        Raises:
            ParityError: there are checkpoints that no run is known to have saved; nothing is removed then.
        """
        left: list[Path | None] = []
        if self.checkpoints is not None:  # those that were set aside too
            left += [path for path in self.checkpoints.glob("*.ckpt*") if _OWN_CHECKPOINT.fullmatch(path.name)]
            if left and not self.has_identity() and self.identity_file is not None:
                raise ParityError(
                    f"{left[0]} is there without the {self.identity_file.name} of a run that saved it, and is not "
                    "removed: move it away, or train in another folder."
                )
        left += [*self._logged(), *self._evaluations()]
        if self.test_file is not None:
            left.append(self.test_file.with_name(WANDB_ID_FILE))  # W&B's own files of it may not be uploaded yet
        for path in filter(None, [*left, self.test_file, self.identity_file]):  # it is a run of its own until the end
            remove(path)

    def _evaluations(self) -> list[Path]:
        """Return the files of evaluations, which are of the weights that an earlier run, or a shorter one, has left."""
        if self.test_file is None:
            return []
        return [path for end in ("json", "png") for path in self.test_file.parent.glob(f"evaluation_*.{end}")]

    def _logged(self) -> list[Path]:
        """Return what an earlier run has logged; beside the logs of ``train_model`` a user's own files may lie."""
        if self.logs is None:
            return []
        if self.test_file is not None:
            return [self.logs / METRICS_FILE, self.logs / TENSORBOARD]
        if not self._logs_are_own and not is_epoch_table(self.logs / METRICS_FILE):
            return []
        events = (self.logs / TENSORBOARD).glob("events.out.tfevents.*")
        return [self.logs / METRICS_FILE, self.logs / TENSORBOARD / "hparams.yaml", *events]

    @property
    def _logs_are_own(self) -> bool:
        """Whether the identity of the run that has begun lies beside its logs."""
        return self.has_identity() and self.identity_file is not None and _same(self.identity_file.parent, self.logs)

    def loggers(self, epochs: int, csv: bool = True, tensorboard: bool = True) -> list[Logger]:
        """Return what writes the logs, of a training that starts after so many epochs.

        Raises:
            ParityError: TensorBoard is not installed, or the table is damaged.
        """
        if self.logs is None:
            return []
        loggers: list[Logger] = [EpochTable(self.logs / METRICS_FILE, keep=epochs)] if csv else []
        return [*loggers, tensorboard_logger(self.logs, epochs)] if tensorboard else loggers

    def available_checkpoints(self) -> list[str]:
        """Return the names of the checkpoints: 'best', 'last', 'previous', and 'epoch_<N>' in order."""
        paths = self.checkpoints.glob("*.ckpt") if self.checkpoints is not None else ()
        names = [path.stem for path in paths if not path.name.startswith(".")]
        return sorted(names, key=lambda name: (name.startswith("epoch_"), len(name), name))

    def checkpoint(self, name: str, advice: str = "train first") -> Path:
        """Return the path of a checkpoint.

        Args:
            name: 'best', 'last', 'previous' or 'epoch_<N>'.
            advice: what a user can do where there are none at all.

        Raises:
            ParityError: there is none of this name.
        """
        if not isinstance(name, str):
            raise ParityError(f"a checkpoint is named by a text, 'best', 'last' or 'epoch_<N>', not {name!r}.")
        known, folder = self.available_checkpoints(), self.checkpoints
        if folder is None or not known:
            raise ParityError(f"{self.logs or folder} has no checkpoints: {advice}")
        if name not in known and name == "best":
            raise ParityError(
                f"{self.logs or folder} has no checkpoint 'best', although it has others: it was removed, or set aside "
                f"because it was damaged. Name another one ({', '.join(known)}), or copy it as best.ckpt."
            )
        if name not in known:
            raise ParityError(f"{self.logs or folder} has no checkpoint '{name}': {did_you_mean(name, known)}")
        return folder / f"{name}.ckpt"

    def is_finished(self) -> bool:
        """Whether the run has been evaluated on test data."""
        return self.test_file is not None and self.test_file.exists()

    def finish(self, best_epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep the test metrics of the best checkpoint."""
        assert self.test_file is not None, "a run that is tested has a folder"
        write_json(self.test_file, {"epoch": best_epoch, "metrics": dict(metrics)})

    def test_metrics(self) -> dict[str, float]:
        """Return the test metrics of the best checkpoint.

        Raises:
            ParityError: the run is not finished.
        """
        assert self.test_file is not None, "a run that is tested has a folder"
        metrics: dict[str, float] = read_json(self.test_file, "a finished run", _TESTED)["metrics"]
        return metrics


def _same(folder: Path, other: Path | None) -> bool:
    """Whether two paths are of one folder, however they are written."""
    return other is not None and os.path.realpath(folder) == os.path.realpath(other)
