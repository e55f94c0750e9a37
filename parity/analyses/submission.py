"""A study on a cluster: an array of SLURM jobs, each with a share of the trials, submitted as training runs are."""

import argparse
from collections.abc import Callable
from pathlib import Path

from parity.analyses.study import Study
from parity.cluster.submission import Job, Resources, Submission, check_cluster
from parity.errors import ParityError

ROOT = Path(__file__).resolve().parents[2]


def submit(study: Study, args: argparse.Namespace, main: Callable[[argparse.Namespace], object]) -> None:
    """Submit what is unfinished of a study; the job that ends last makes the table and the figures.

    Args:
        study: which.
        args: its parsed options; those of the job among them.
        main: of the study's command line; what each job calls.

    Raises:
        ParityError: SLURM is not there, refuses the jobs, nothing is left to be done, or a task is not a data set.
    """
    left = len(study.unfinished())
    if left == 0:
        raise ParityError(f"all trials of {study.folder} are done: the same command without --submit draws them.")
    if args.array < 1 or args.jobs < 1:
        raise ParityError(f"--array and --jobs count from 1, not {args.array} and {args.jobs}.")
    study.check_data()
    parts = min(args.array, left)
    jobs = [_job(study, args, number, parts) for number in range(parts)]
    resources = Resources(
        gpus=0,
        timeout_min=args.timeout_min,
        cpus_per_task=args.jobs,
        mem_gb=args.mem_gb,
        partition=args.partition,
        account=args.account,
        qos=args.qos,
        constraint=args.constraint,
        job_name=args.job_name,
        signal_delay_s=30,
    )
    submission = Submission.of(jobs, resources, jobs[0].name, study.folder)
    if args.dry_run:
        print(submission.script(ROOT))
        return
    check_cluster()
    ids = submission.submit(main, ROOT)
    for job_id, job in zip(ids, jobs, strict=True):
        print(f"job {job_id} runs {job.what}")
    first = ids[0].partition("_")[0]
    print(f"submitted as {first}; squeue --job {first} shows it; the same command without --submit runs what is left")


def _job(study: Study, args: argparse.Namespace, number: int, parts: int) -> Job:
    """Return the job of a part of a study, which is counted from 0."""
    changes = {"share": (number, parts), "submit": False, "dry_run": False, "artifacts": args.artifacts.absolute()}
    return Job(
        name=f"{study.kind.name}-{study.id}",
        what=f"share {number + 1}-of-{parts} of {study.folder}",
        folder=study.share_folder(number, parts),
        arguments=argparse.Namespace(**{**vars(args), **changes}),
    )
