"""The report of a comparison, sent to Weights & Biases."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

from parity.versions import code_version
from parity.wandb_server import is_offline

log = logging.getLogger(__name__)


def log_report(files: Sequence[Path], project: str, name: str) -> None:
    """Send a report's tables and figures to W&B, as a run of its own; offline where there is no key or network.

    Args:
        files: what ``write_report`` wrote.
        project: W&B project.
        name: of the run.
    """
    import wandb

    offline = is_offline("this report")
    folder = files[0].parent
    settings = wandb.Settings(quiet=True, silent=offline, init_timeout=30)
    with wandb.init(
        project=project, name=name, job_type="comparison", dir=folder, config={"version": code_version()},
        mode="offline" if offline else None, settings=settings,
    ) as run:  # fmt: skip
        for path in files:
            if path.suffix == ".csv":
                head, *rows = csv.reader(io.StringIO(path.read_text(), newline=""))
                columns: list[str | int] = [*head]
                run.log({path.stem: wandb.Table(columns=columns, data=rows)})
            elif path.suffix == ".png":
                run.log({f"figures/{path.stem}": wandb.Image(str(path))})
            elif path.suffix == ".html":
                run.log({path.stem: wandb.Html(str(path))})
        if offline:
            log.info("W&B run %s is offline; to upload it: wandb sync %s", run.id, Path(run.dir).parent)
