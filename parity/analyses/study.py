"""A study: a grid of trials in a folder of its own, which the same command resumes, and what is drawn of them."""

import importlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import terminal
from parity.analyses.grid import DEFAULTS, Axes, Trial, grid_id, trials_of
from parity.analyses.server import start_server
from parity.errors import ParityError
from parity.schema import Field
from parity.settings import check_name, user_path
from parity.storage.files import read_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

ARTIFACTS = Path("artifacts")
CONFIG_FILE, TABLE_FILE, FINDINGS_FILE = "config.json", "table.parquet", "findings.md"


@dataclass(frozen=True)
class Kind:
    """What sets one kind of study apart from another.

    Args:
        name: of its module in ``parity.analyses``.
        axes: of its default grid, where they are not those of all studies.
        paper: the paper's grid for a task.
        figures: the table of all trials -> figures by their files' stems.
        findings: the table -> what is read off it, as Markdown.
        rule: the learning rule that the figures are of; None for any.
    """

    name: str
    axes: Axes
    paper: Callable[[str], Axes]
    figures: "Callable[[pd.DataFrame], dict[str, Figure]]"
    findings: "Callable[[pd.DataFrame], str]"
    rule: str | None = None


def kind_named(name: str) -> Kind:
    """Return a kind of study by the name of its module."""
    kind: Kind = importlib.import_module(f"parity.analyses.{name}").STUDY
    return kind


class Study:
    """A grid and its folder, ``<root>/<kind>/<id>/``:

    ``config.json``      the grid
    ``trials/*.json``    a file per finished trial, whole or not there; ``logs/*.log`` what each trial has logged
    ``table.parquet``    a row per trial, made of these files when all are there; figures and ``findings.md`` as well

    Args:
        kind: which figures are drawn, and the axes that are not given.
        axes: of the grid.
        root: of all studies.
        study_id: name of the folder; by default a hash of the grid.

    Raises:
        ParityError: the grid makes no sense, or the folder is another grid's.
    """

    def __init__(self, kind: Kind, axes: Axes, root: Path = ARTIFACTS, study_id: str | None = None) -> None:
        self.kind = kind
        self.axes = {**DEFAULTS, **kind.axes, **axes}
        if kind.rule not in (None, *self.axes["rule"]):
            raise ParityError(
                f"{kind.name} is a study of --rule {kind.rule}: it has nothing to draw of the others alone."
            )
        if study_id is not None and (Path(study_id).name != study_id or study_id == ".."):
            raise ParityError(f"--id is the name of one folder, not '{study_id}'.")
        check_name(study_id or "")
        self.trials = trials_of(self.axes)
        self.id = study_id or grid_id(kind.name, self.axes)
        self.folder = (user_path(root) / kind.name / self.id).absolute()
        self._config = json.loads(json.dumps({"study": kind.name, "trials": len(self.trials), "axes": self.axes}))
        self._check_folder()

    def _check_folder(self) -> None:
        path = self.folder / CONFIG_FILE
        if not path.exists():
            return
        try:
            known = read_json(path, "the folder of a study", {"axes": Field((dict,), needed=False)})
        except ParityError as error:
            raise ParityError(f"{error} Give the study another --id.") from error
        if known != self._config:
            changed = [name for name, value in self._config["axes"].items() if known.get("axes", {}).get(name) != value]
            raise ParityError(
                f"{self.folder} is a study of another grid (--{' --'.join(changed)}): give this one another --id, or "
                "none."
            )

    def unfinished(self) -> list[Trial]:
        """Return the trials that have no result yet."""
        return [trial for trial in self.trials if not trial.result_file(self.folder).exists()]

    def share_folder(self, number: int, parts: int) -> Path:
        """Return the folder of a share, counted from 0: its lock and its jobs' logs are there."""
        return self.folder / "shares" / f"{number + 1}-of-{parts}"

    def check_data(self) -> None:
        """Raise ParityError where a task is not a data set."""
        from parity.data import get_datamodule_class  # torch

        for dataset in {trial.dataset for trial in self.trials}:
            get_datamodule_class(dataset)

    def run(self, jobs: int = 1, share: tuple[int, int] = (0, 1)) -> None:
        """Run what is unfinished; a process that runs all of a study does so alone.

        Args:
            jobs: processes; 0 runs the trials in this one.
            share: (i, n): only the i-th of n parts, counted from 0.

        Raises:
            ParityError: a trial cannot be run, or another process runs this study.
            Stopped: a signal; what is finished stays.
        """
        if jobs < 0:
            raise ParityError(f"--jobs counts processes from 0, not {jobs}.")
        number, parts = share
        left = set(self.unfinished())
        own = self.trials[number::parts]
        trials = [trial for trial in own if trial in left]
        if trials:
            self.check_data()
            if jobs:
                start_server()

        from parity.storage.files import write_json
        from parity.storage.locks import RunLock

        # Taken even if nothing is to be run: the one before may have been killed between its last trial and its end.
        with RunLock(self.folder if parts == 1 else self.share_folder(number, parts)):
            if parts == 1:  # else other shares write there
                self._tidy_up()
            if not trials:
                return

            from parity.analyses.workers import run_all  # torch and Lightning: what takes long to import
            from parity.training.loop.signals import StopSignals

            with StopSignals():
                write_json(self.folder / CONFIG_FILE, self._config)
                with terminal.progress("trials", len(own), len(own) - len(trials), transient=False) as advance:
                    for _ in run_all(trials, self.folder, jobs):
                        advance()

    def _tidy_up(self) -> None:
        """Remove what killed processes left; no other may write there now."""
        from parity.storage.files import remove_temporaries

        for folder in (self.folder, *self.folder.glob("*/")):
            remove_temporaries(folder)

    def table(self) -> "pd.DataFrame":
        """Return a row per finished trial: its settings and what is recorded of it; lists where it is more than one.

        Raises:
            ParityError: none is finished.
        """
        import pandas as pd

        rows = [_row(path) for trial in self.trials if (path := trial.result_file(self.folder)).exists()]
        if not rows:
            raise ParityError(f"no trial of {self.folder} is finished: run the study first.")
        return pd.DataFrame(rows)

    def write(self) -> str:
        """Write the table, the figures and the findings; return the findings, as Markdown.

        Of two shares that end at once, the second one waits for the first.
        """
        from parity.storage.files import write_text, written_whole
        from parity.storage.locks import RunLock

        table = self.table()
        with RunLock(self.folder, wait=True):
            if not self.unfinished():  # no share writes any more
                self._tidy_up()
            with written_whole(self.folder / TABLE_FILE) as temporary:
                table.to_parquet(temporary, index=False)
            for stem, figure in self.kind.figures(table).items():
                with written_whole(self.folder / f"{stem}.png") as temporary:
                    figure.savefig(temporary, format="png", dpi=110)
            findings = self.kind.findings(table)
            write_text(self.folder / FINDINGS_FILE, findings)
        return findings


def _row(path: Path) -> dict[str, Any]:
    profile_of = Field((dict,))
    try:
        result = read_json(path, "the folder of a study", {"start": profile_of, "end": profile_of})
    except ParityError as error:
        raise ParityError(f"{error} Remove it, and the same command runs the trial again.") from error
    for when in ("start", "end"):
        profile: Mapping[str, Any] = result.pop(when)
        result |= {f"{when}_{name}": value for name, value in profile.items()}
    return result
