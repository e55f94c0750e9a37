"""Train on a SLURM cluster: parity submit --dataset MNIST --experiment_name mlp_k2_add --gpus 1

Takes all options of parity train. Several experiments become an array of jobs. A job whose time is over, or that is
preempted, saves, requeues itself and resumes; scancel saves and ends it.
"""

import argparse
import shlex
from pathlib import Path

from parity.commands import train

ROOT = Path(__file__).resolve().parents[2]


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of all options: those of train.py, and those of the job."""
    parser = train.get_parser()
    parser.description = __doc__
    job = parser.add_argument_group("SLURM")
    job.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="number of GPUs on each node, 0 for CPUs alone (default: %(default)s)",
    )
    job.add_argument("--nodes", type=int, default=1, metavar="N", help="number of nodes (default: %(default)s)")
    job.add_argument(
        "--tasks_per_node",
        type=int,
        metavar="N",
        help="number of ranks on each node (default: one for each GPU, else 1)",
    )
    job.add_argument("--cpus_per_task", type=int, metavar="N", help="number of CPUs of each rank")
    job.add_argument("--mem_gb", type=float, metavar="GB", help="memory on each node")
    time = job.add_mutually_exclusive_group()
    time.add_argument("--timeout", type=float, metavar="HOURS", help="time limit, after which the job requeues itself")
    time.add_argument("--timeout_min", type=int, metavar="MINUTES", help="time limit in minutes, instead of hours")
    job.add_argument(
        "--signal_delay_s", type=int, default=90, metavar="SECONDS",
        help="save this long before the time limit, up to a minute earlier (default: %(default)s)",
    )  # fmt: skip
    job.add_argument(
        "--job_name", help="name of the job (default: the run's name, or the data set's if there are several)"
    )
    for name in ("partition", "account", "qos", "constraint"):
        job.add_argument(f"--{name}", help=f"{name} of the job, as of sbatch")
    job.add_argument("--dry_run", action="store_true", help="print the batch scripts and submit nothing")
    return parser


def main(args: argparse.Namespace) -> None:
    """Submit every experiment that is named."""
    if args.list or args.print_config:
        train.main(args)
        return

    from parity.cluster.submission import Resources, check_cluster, plan
    from parity.experiments import catalogue

    resources = Resources.of(args)
    if not args.dry_run:
        check_cluster()
    for folder in args.experiments_path:
        catalogue.add_experiments_path(folder)
    experiments = train.make_experiments(args)
    train.run_options(args)
    before: str | None = None
    for submission in plan(experiments, args, resources):
        if args.dry_run:
            print(submission.script(ROOT, before))
            before = "ID_OF_THE_JOB_ABOVE"
            continue
        ids = submission.submit(train.main, ROOT, before)
        for job_id, job in zip(ids, submission.jobs, strict=True):
            print(f"job {job_id} trains {job.what}")
            print(f"  tail -F {shlex.quote(f'{job.folder}/slurm_logs/{job_id}/{job_id}_0_log.out')}")
        waiting = f", after {before}" if before else ""
        before = ids[0].partition("_")[0]
        print(f"submitted as {before}{waiting}; squeue --job {before} shows it, scancel {before} saves and ends it")
