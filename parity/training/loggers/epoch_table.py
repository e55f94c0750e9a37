"""The run's table of metrics, and the loggers that are made only when asked for."""

import csv
import io
import os
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from parity.errors import ParityError
from parity.storage.files import read_text, write_text

TENSORBOARD = "tensorboard"
"""In a run's folder: the folder of its event files."""


class EpochTable(Logger):
    """A CSV file with a row per epoch and a column per metric.

    Args:
        path: the file; None writes none, and keeps the rows in memory alone.
        keep: a run that is resumed after this epoch keeps the rows up to it, and replaces the later ones.
    """

    def __init__(self, path: Path | None, keep: int = 0) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, str]] = {
            int(row["epoch"]): {name: value for name, value in row.items() if value}
            for row in (read_table(path) if keep and path is not None else [])
            if int(row["epoch"]) <= keep
        }

    @property
    def history(self) -> list[dict[str, float]]:
        """The metrics of each epoch, by name; 'epoch' counts from 1."""
        return [{name: float(value) for name, value in self._rows[epoch].items()} for epoch in sorted(self._rows)]

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config lies beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put metrics into the row of epoch ``step``, counted from 1."""
        assert step is not None, "epochs are the axis of every metric"
        self._rows.setdefault(step, {"epoch": str(step)}).update(
            {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}
        )

    def finalize(self, status: str) -> None:
        """Do nothing: each epoch was saved when it was logged, and a run that ends in an error has nothing to add."""

    @rank_zero_only
    def save(self) -> None:
        if not self._rows or self.path is None:
            return
        columns = sorted({name for row in self._rows.values() for name in row} - {"epoch"}, key=_column_order)
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[epoch] for epoch in sorted(self._rows))
        write_text(self.path, text.getvalue())


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of an ``EpochTable``'s file; none if there is no such file.

    Raises:
        ParityError: it is not such a table.
    """
    if not os.path.lexists(path):
        return []
    text = read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
        if "epoch" not in (reader.fieldnames or ["epoch"]):
            raise KeyError("epoch")
        for row in rows:
            int(row["epoch"])
            for value in row.values():
                float(value or 0)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ParityError(f"{path} is damaged; move it away to resume without the rows so far.") from error
    return rows


def drop_test_metrics(path: Path) -> None:
    """Remove the test metrics of a finished run from its table: its best epoch is another one once it is extended.

    Raises:
        ParityError: it is not an ``EpochTable``'s file.
    """
    rows = read_table(path)
    if any(name.startswith("test/") for name in (rows[0] if rows else ())):
        table = EpochTable(path)
        for row in rows:
            table.log_metrics(
                {name: float(value) for name, value in row.items() if value and not name.startswith("test/")},
                step=int(row["epoch"]),
            )
        table.save()


def is_epoch_table(path: Path) -> bool:
    """Whether a file is an ``EpochTable``'s, by its columns, and not a table of something else."""
    try:
        rows = read_table(path)
    except ParityError:
        return False
    return bool(rows) and next(iter(rows[0])) == "epoch" and "train/loss" in rows[0]


def _column_order(name: str) -> tuple[int, str, int]:
    split, _, metric = name.partition("/")
    stem, _, number = metric.rpartition("_top") if "_top" in metric else metric.rpartition("top")
    splits = ("train", "val", "test")
    return (
        splits.index(split) if split in splits else len(splits),
        stem if number.isdigit() else metric,
        int(number) if number.isdigit() else 0,
    )


def tensorboard_logger(folder: Path, done: int = 0) -> Logger:
    """Return a TensorBoard logger that writes under ``folder``, with the epoch as the axis.

    Args:
        folder: of the run.
        done: a run that is resumed after this epoch hides what it logged of later ones before.

    Raises:
        ParityError: TensorBoard is not installed.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    _wait_for_a_later_second(folder / TENSORBOARD)
    try:
        return TensorBoardLogger(folder, name=TENSORBOARD, version="", purge_step=done + 1)
    except ModuleNotFoundError as error:
        raise ParityError("TensorBoard is not installed: pip install 'parity[tensorboard]'.") from error


def _wait_for_a_later_second(folder: Path) -> None:
    """Wait until a new event file's name sorts behind those in ``folder``; hardly ever, and for less than a second.

    TensorBoard reads the files in the order of their names, which begin with the second they were made in: of two from
    the same second the later one may be read first, and what it holds is dropped.
    """
    started = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    now = time.time()
    if str(int(now)) in started:
        time.sleep(1 - now % 1)
