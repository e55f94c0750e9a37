"""Weights & Biases: one W&B run for a run of ours, however often that is interrupted, and no way to stop training."""

import logging
import math
import secrets
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from parity.errors import in_one_line
from parity.metrics import less_is_better
from parity.storage.files import read_text, write_text
from parity.versions import code_version
from parity.wandb_server import is_offline

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

WANDB_ID_FILE = "wandb_id"
"""In a run's folder: the id of its W&B run."""

_INIT_SECONDS, _UPLOAD_SECONDS = 30, 600
_FINISH_SECONDS = 15  # with a silent server; a job whose time is over has to end, and what is left is on the disk
_STARTS = 3  # W&B's own process can be ended from outside; after so many starts training continues without it


class WandbLogger(Logger):
    """Logs each epoch of a run to W&B once, as one row, with ``epoch`` as the axis of every metric.

    The id is kept in the run's folder, so that a resumed run stays in the same W&B run. A killed process takes
    with it what W&B had not yet sent or written, and the epoch after the last checkpoint is trained twice; so a run
    that is resumed first logs those rows of ``history`` that W&B does not have, and no epoch that it has. Offline,
    that is all of them: the newest offline folder holds the whole run, and uploading it replaces what older ones left.

    Without a key or a network W&B is offline, with a warning. Whatever else fails in it is a warning too.

    Args:
        folder: of the run.
        project: W&B project.
        run_name: name shown by W&B.
        run_id: W&B's id; by default that of the run's folder, or a new one.
        config: plain values; the code's version is put beside them.
        monitor: metric of which W&B's summary has the best value, as ``best/<monitor>``, and its ``best_epoch``.
        done: epochs that the run is resumed after.
        history: metrics of these epochs, each with its ``epoch``.
    """

    def __init__(
        self,
        folder: Path,
        project: str,
        run_name: str,
        *,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        monitor: str,
        done: int = 0,
        history: Sequence[Mapping[str, float]] = (),
    ) -> None:
        super().__init__()
        self.folder, self.project, self.run_name, self.run_id = folder, project, run_name, run_id
        self.config, self.monitor = dict(config or {}), monitor
        self._rows = {int(row["epoch"]): {**row, "epoch": int(row["epoch"])} for row in history if row["epoch"] <= done}
        self._unfinished: dict[int, dict[str, float]] = {}
        self._done, self._logged, self._starts = done, 0, 0
        self._run: wandb.Run | None = None

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str | None:
        return self.run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> "wandb.Run | None":
        """The W&B run, started when first asked for; None if W&B does not start."""
        if self._run is None and self._starts < _STARTS:
            self._starts += 1
            self._run = self._start()
        return self._run

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: W&B is given the config at the start."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put metrics into the row of epoch ``step``, counted from 1; training metrics, the last to come, send it."""
        assert step is not None, "epochs are the axis of every metric"
        row = self._unfinished.setdefault(step, {})
        row.update((name, float(value)) for name, value in metrics.items())
        if not any(name.startswith("train/") for name in metrics):
            return
        self._rows[step] = {**self._unfinished.pop(step), "epoch": step}
        run = self.experiment  # when it is restarted, it sends all rows
        if run is not None and step > self._logged:
            with self._warned():
                self._send(run, step)

    @rank_zero_only
    def finish(self, test_metrics: Mapping[str, float], best_epoch: int, checkpoint: Path | None = None) -> None:
        """End the W&B run: put the test metrics into its summary, and upload a checkpoint if one is given."""
        run = self.experiment
        if run is None:
            return
        with self._warned():
            run.summary.update({**test_metrics, "best_epoch": best_epoch})
            if checkpoint is not None:
                self._upload(run, checkpoint, {**test_metrics, "epoch": best_epoch})
            run.finish()
        self._run, self._starts = None, _STARTS

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run where training was stopped; after training it stays open for the test metrics."""
        if status != "success" and self._run is not None:
            with self._warned():
                self._run.finish(exit_code=1)
            self._run, self._starts = None, _STARTS

    def _start(self) -> "wandb.Run | None":
        import wandb

        for without_server in (True,) if is_offline("this run") else (False, True):
            try:
                return self._open(without_server)
            except Exception as error:  # W&B raises errors of many kinds
                log.warning("W&B does not start%s (%s)", " offline" if without_server else "", in_one_line(error))
                with suppress(Exception):  # what is left of a failed start would make the next one fail
                    wandb.teardown()
        log.warning("training continues without W&B")
        return None

    def _open(self, offline: bool) -> "wandb.Run":
        import wandb

        if self.run_id is None:
            self.run_id = _stored_id(self.folder) or secrets.token_hex(4)
        write_text(self.folder / WANDB_ID_FILE, self.run_id + "\n")
        # Uploading an offline folder that resumes adds to what the server has; any other one replaces that.
        all_rows = len(self._rows) == max(self._rows, default=self._done)
        run = wandb.init(
            project=self.project,
            name=self.run_name,
            id=self.run_id,
            dir=self.folder,
            config={**self.config, "version": code_version()},
            mode="offline" if offline else None,
            resume=None if offline and all_rows else "allow",
            reinit="finish_previous",
            settings=wandb.Settings(
                quiet=True, silent=offline, init_timeout=_INIT_SECONDS, finish_timeout=_FINISH_SECONDS
            ),
        )
        if run.id != self.run_id and not run.disabled:  # a sweep's agent has chosen another one
            self.run_id = run.id
            write_text(self.folder / WANDB_ID_FILE, self.run_id + "\n")
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        self._logged = int(run.summary.get("epoch") or 0)
        self._send(run, *(epoch for epoch in sorted(self._rows) if epoch > self._logged))
        if offline:
            log.info("W&B run %s is offline; to upload it: wandb sync %s", self.run_id, Path(run.dir).parent)
        elif run.url:
            log.info("W&B run %s: %s", self.run_id, run.url)
        return run

    def _send(self, run: "wandb.Run", *epochs: int) -> None:
        for epoch in epochs:
            run.log(self._rows[epoch])
            self._logged = epoch
        rows = self._rows.items()
        values = {epoch: row[self.monitor] for epoch, row in rows if not math.isnan(row.get(self.monitor, math.nan))}
        sign = -1 if less_is_better(self.monitor) else 1
        best, name = max(values, key=lambda epoch: sign * values[epoch], default=None), f"best/{self.monitor}"
        # Of what W&B's own summary="max" would know, only the rows since the last start would count.
        if best is not None and ((known := run.summary.get(name)) is None or sign * values[best] > sign * known):
            run.summary.update({name: values[best], "best_epoch": best})

    def _upload(self, run: "wandb.Run", checkpoint: Path, metadata: Mapping[str, float]) -> None:
        import wandb

        artifact = wandb.Artifact(f"checkpoint-{self.run_id}", type="model", metadata=dict(metadata))
        # Uploaded from where it lies: checkpoints are replaced whole, never changed, and a home folder has its limits.
        artifact.add_file(str(checkpoint), policy="immutable", skip_cache=True)
        logged = run.log_artifact(artifact, aliases=["best"])
        if not run.offline:
            logged.wait(_UPLOAD_SECONDS)

    @contextmanager
    def _warned(self) -> Iterator[None]:
        """Turn an error into a warning, and let the next epoch restart W&B."""
        import wandb

        try:
            yield
        except Exception as error:  # e.g. its own process was ended by a signal to the whole job
            log.warning("W&B failed (%s), which stops nothing", in_one_line(error))
            self._run = None
            with suppress(Exception):
                wandb.teardown()


def _stored_id(folder: Path) -> str | None:
    path = folder / WANDB_ID_FILE
    return read_text(path).strip() or None if path.exists() else None
