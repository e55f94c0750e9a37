"""What runs in a SLURM job, in each of its ranks: python -m parity.cluster.slurm_job FOLDER

Until the run listens to signals they do what they do by default: there is nothing to save yet, and the batch script
sees by the exit status, 128 + signal, what has ended the job.
"""

import argparse
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths

from parity.command_line import run_command
from parity.errors import Stopped

log = logging.getLogger(__name__)

REQUEUE_ME = 200
"""Exit status after the cluster's warning; srun returns the highest of its ranks', and a rank it kills has 143."""

_WAIT_FOR_PICKLE = 60.0
"""Seconds: a job may start before the submitting process, with its id, has put its file there."""


@dataclass(frozen=True)
class TrainingJob:
    """One training command; submitit pickles it, and it is called again each time that SLURM starts the job.

    Args:
        main: of ``train.py``.
        args: its parsed options, with a single experiment.
        save_dir: of the run.
    """

    main: Callable[[argparse.Namespace], object]
    args: argparse.Namespace
    save_dir: Path

    def __call__(self) -> int:
        """Train, or resume, and return the exit status."""
        args = argparse.Namespace(**vars(self.args))
        if _restarts() and self._has_begun():
            args.force_no_resume = False  # what is there now is this job's own
        status = run_command(self._train, args)
        return REQUEUE_ME if status in (128 + signal.SIGUSR1, 128 + signal.SIGUSR2) else status

    def _train(self, args: argparse.Namespace) -> None:
        log.info("SLURM job %s on %s, start %d", _job_id(), socket.gethostname(), _restarts() + 1)
        try:
            self.main(args)
        except Stopped:
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(signum, signal.SIG_IGN)  # other ranks may still be closing: let none die now
            raise

    def _has_begun(self) -> bool:
        from parity.training.loop.run_folder import CONFIG_FILE

        config = self.save_dir / CONFIG_FILE
        return config.exists() and config.stat().st_mtime > _paths().submitted_pickle.stat().st_mtime


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _job_id() -> str:
    return submitit.JobEnvironment().job_id


def _paths() -> JobPaths:
    return submitit.JobEnvironment().paths


def run(folder: str) -> int:
    """Call the job that was submitted in a folder of logs; submitit's own way to do so would set signal handlers.

    Args:
        folder: as submitit was given it, with its '%j'.

    Returns:
        The exit status.
    """
    os.environ["SUBMITIT_FOLDER"] = folder
    path = _paths().submitted_pickle
    deadline = time.monotonic() + _WAIT_FOR_PICKLE
    while not path.exists():
        if time.monotonic() > deadline:
            sys.stderr.write(f"error: {path}, which parity submit writes on submission, is not there.\n")
            return 1
        time.sleep(0.2)
    if (open_to := _open_to_others(path)) is not None:
        sys.stderr.write(
            f"error: {path} is not loaded, for loading it runs code and {open_to} may be another user's, or written "
            "into by one: chmod go-w it, and submit again.\n"
        )
        return 1
    status: int = DelayedSubmission.load(path).result()
    return status


def _open_to_others(path: Path) -> Path | None:
    """Return what of a pickle and the two folders that it lies in another user can have written; None where nothing."""
    outer = path.parent.parent
    if _is_ours(outer) and not outer.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None  # nobody else comes in, whatever the modes inside
    for each in (path, path.parent, outer):
        if not _is_ours(each) or each.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return each
    return None


def _is_ours(path: Path) -> bool:
    return path.stat().st_uid in (0, os.geteuid())


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1]))
