"""A study on a cluster: an array of SLURM jobs, each with a share of the trials, submitted as training runs are."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parity.analyses.study import Study
from parity.cluster.submission import Resources, Submission, check_cluster
from parity.errors import ParityError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Share:
    """A job's part of a study, as ``Submission`` sees what it submits.

    Args:
        study: the whole.
        number: which part, counted from 0.
        parts: how many there are.
    """

    study: Study
    number: int
    parts: int

    @property
    def save_dir(self) -> Path:
        """The share's own folder: its jobs' logs are there."""
        return self.study.folder / "shares" / self.experiment_name

    @property
    def base_directory(self) -> Path:
        """Where the folder of the study lies."""
        return self.study.folder.parent

    @property
    def dataset(self) -> str:
        """Name of the study's folder."""
        return self.study.id

    @property
    def experiment_name(self) -> str:
        """Which share, e.g. '1-of-4'."""
        return f"{self.number + 1}-of-{self.parts}"

    @property
    def run_name(self) -> str:
        """What a single job is called in SLURM's queue."""
        return f"{self.study.kind.name}-{self.study.id}"


def submit(study: Study, args: argparse.Namespace, main: Callable[[argparse.Namespace], object]) -> None:
    """Submit what is unfinished of a study; the job that ends last makes the table and the figures.

    Args:
        study: which.
        args: its parsed options; those of the job among them.
        main: of the study's command line; what each job calls.

    Raises:
        ParityError: SLURM is not there, refuses the jobs, nothing is left to be done, or a task is no data set.
    """
    left = len(study.unfinished())
    if left == 0:
        raise ParityError(f"all trials of {study.folder} are done: the same command without --submit draws them.")
    if args.array < 1 or args.jobs < 1:
        raise ParityError(f"--array and --jobs count from 1, not {args.array} and {args.jobs}.")
    study.check_data()
    parts = min(args.array, left)
    shares = [Share(study, number, parts) for number in range(parts)]
    resources = Resources(
        gpus=0,
        timeout_min=args.timeout_min,
        cpus_per_task=args.jobs,
        mem_gb=args.mem_gb,
        partition=args.partition,
        account=args.account,
        qos=args.qos,
        constraint=args.constraint,
        job_name=args.job_name or shares[0].run_name,
        signal_delay_s=30,
    )
    arguments = [_options_of(share, args) for share in shares]
    submission = Submission(shares, arguments, resources)
    if args.dry_run:
        print(submission.script(ROOT))
        return
    check_cluster()
    ids = submission.submit(main, ROOT)
    for job_id, share in zip(ids, shares, strict=True):
        print(f"job {job_id} runs share {share.experiment_name} of {study.folder}")
    first = ids[0].partition("_")[0]
    print(f"submitted as {first}; squeue --job {first} shows it; the same command without --submit runs what is left")


def _options_of(share: Share, args: argparse.Namespace) -> argparse.Namespace:
    changes = {
        "share": (share.number, share.parts),
        "submit": False,
        "dry_run": False,
        "artifacts": args.artifacts.absolute(),
    }
    return argparse.Namespace(**{**vars(args), **changes})
