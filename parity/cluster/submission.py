"""SLURM jobs: what they ask of the cluster, which come first, and their batch scripts."""

import argparse
import contextlib
import io
import math
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from parity.cluster.slurm_job import REQUEUE_ME, TrainingJob
from parity.errors import ParityError
from parity.settings import check_printable

if TYPE_CHECKING:
    from parity.experiments import Experiment

LOGS = "slurm_logs"

_MARKS = ("%j", "%t", "%A", "%a")
"""What submitit replaces in the paths of logs, wherever it stands."""

_JOB_ID = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"

# After srun, when all ranks are gone. SIGUSR1 and SIGUSR2 are the cluster's warning; 138 and 140 is a rank that had not
# begun to listen. Where no warning came, the end of the time or a preemption shows in the cluster's record of the job.
# scancel does not, and leaves no running job.
_REQUEUE = rf"""
status=$?
case $status in
  138 | 140 | {REQUEUE_ME}) signs='JobState=RUNNING|Reason=TimeLimit|PreemptTime=[0-9]' ;;
  137 | 143) signs='Reason=TimeLimit|PreemptTime=[0-9]' ;;
  *) exit "$status" ;;
esac
if scontrol -o show job "$job" | grep -Eq " ($signs)"; then
  echo "job $job was stopped, with status $status: requeueing it"
  for attempt in 1 2 3 4 5; do
    scontrol requeue "$job" && exit "$status"
    sleep 10
  done
  echo "error: job $job could not be requeued; the same command resumes it where it was stopped"
fi
exit "$status"
""".strip()


@dataclass(frozen=True)
class Resources:
    """What a job asks the cluster for; None leaves it to the cluster.

    Args:
        gpus: per node; 0 is a job on CPUs.
        nodes: the number of nodes.
        tasks_per_node: ranks on each node; by default one for each GPU.
        partition, account, qos, constraint, job_name: as SLURM has them.
        timeout: hours.
        timeout_min: minutes, instead.
        cpus_per_task: of each rank.
        mem_gb: of each node.
        signal_delay_s: how long before the end of its time a job is signalled to save and requeue itself.

    Raises:
        ParityError: numbers that make no sense.
    """

    gpus: int = 1
    nodes: int = 1
    tasks_per_node: int | None = None
    partition: str | None = None
    timeout: float | None = None
    timeout_min: int | None = None
    job_name: str | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    signal_delay_s: int = 90

    def __post_init__(self) -> None:
        for name in ("nodes", "tasks_per_node", "timeout", "timeout_min", "cpus_per_task", "mem_gb", "signal_delay_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ParityError(f"--{name} must be above 0, not {value}.")
        for name in ("partition", "account", "qos", "constraint", "job_name"):
            if (value := getattr(self, name)) is not None:
                check_printable(value, f"--{name}")  # sbatch reads a script line by line
        if self.gpus < 0:
            raise ParityError(f"--gpus must be 0 or more, not {self.gpus}.")
        if self.gpus and self.tasks_per_node not in (None, self.gpus):
            raise ParityError(
                f"--tasks_per_node {self.tasks_per_node} does not fit --gpus {self.gpus}: each rank has one GPU."
            )
        if self.minutes is not None and self.minutes * 60 <= self.signal_delay_s:
            raise ParityError(
                f"--signal_delay_s {self.signal_delay_s} is not shorter than the job's time, {self.minutes} minutes: "
                "it would be stopped as soon as it starts."
            )

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """Take them from parsed options of the same names."""
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})

    @property
    def minutes(self) -> int | None:
        """The job's time limit."""
        return math.ceil(self.timeout * 60) if self.timeout is not None else self.timeout_min

    @property
    def ranks_per_node(self) -> int:
        """How many processes train together on each node."""
        return self.tasks_per_node or max(1, self.gpus)

    def options_of_job(self, args: argparse.Namespace) -> argparse.Namespace:
        """Return options of ``train.py`` with the hardware that the job will have.

        Raises:
            ParityError: they ask for other hardware.
        """
        if args.devices not in ("1", str(self.ranks_per_node)) or args.num_nodes not in (1, self.nodes):
            raise ParityError("--devices and --num_nodes follow from --gpus, --tasks_per_node and --nodes here.")
        accelerator = "gpu" if self.gpus else "cpu"
        if args.accelerator not in ("auto", accelerator, "cuda" if self.gpus else "cpu"):
            raise ParityError(f"--accelerator {args.accelerator} does not fit --gpus {self.gpus}.")
        return _changed(
            args,
            accelerator=accelerator,
            devices=str(self.ranks_per_node),
            num_nodes=self.nodes,
            distributed=args.distributed or self.nodes * self.ranks_per_node > 1,
        )


@dataclass(frozen=True)
class Job:
    """One command in a job of its own.

    Args:
        name: in SLURM's queue.
        what: it works on, in messages, as 'Digits mlp_k2_add'.
        folder: its logs lie in a folder of it.
        arguments: parsed options of the command.
    """

    name: str
    what: str
    folder: Path
    arguments: argparse.Namespace


@dataclass(frozen=True)
class Submission:
    """What one sbatch submits: a job, or an array of several.

    Args:
        jobs: what is submitted.
        resources: of each job.
        name: of an array in SLURM's queue.
        folder: an array's logs lie in a folder of it.
    """

    jobs: Sequence[Job]
    resources: Resources
    name: str
    folder: Path

    @classmethod
    def of(cls, jobs: Sequence[Job], resources: Resources, name: str, folder: Path) -> Self:
        """Return the submission of jobs; a single one has its own name and folder.

        Raises:
            ParityError: SLURM's logs cannot lie in the folder.
        """
        if len(jobs) == 1:
            name, folder = jobs[0].name, jobs[0].folder
        for path in (folder, *(job.folder for job in jobs)):
            if mark := next((mark for mark in _MARKS if mark in str(path.absolute())), None):
                raise ParityError(
                    f"SLURM's logs cannot lie in {path}, for it would replace '{mark}': give another --run_name or "
                    "--base_directory."
                )
        return cls(jobs, resources, resources.job_name or name, folder)

    @property
    def logs(self) -> Path:
        """The folder with a folder of logs for each job."""
        return self.folder.absolute() / LOGS

    def script(self, root: Path, after: str | None = None) -> str:
        """Return the batch script.

        Args:
            root: folder of ``train.py``.
            after: job that must have ended well before.
        """
        return self._executor(root, after).script()

    def submit(self, main: Callable[[argparse.Namespace], object], root: Path, after: str | None = None) -> list[str]:
        """Submit it and return the jobs' ids.

        Args:
            main: of the command; each job calls it with its arguments.
            root: folder of ``train.py``.
            after: job that must have ended well before.

        Raises:
            ParityError: SLURM refuses it, or the folder for logs cannot be written; nothing is left then.
        """
        executor = self._executor(root, after)
        with _no_traces_of_failure(self.logs), contextlib.redirect_stderr(io.StringIO()):
            _make_private(self.logs)
            submitted = []
            with executor.batch():
                for job in self.jobs:
                    submitted.append(executor.submit(TrainingJob(main, job.arguments, job.folder.absolute())))
        ids = [job.job_id for job in submitted]
        for job, job_id in zip(self.jobs, ids, strict=True):
            link = job.folder.absolute() / LOGS / job_id
            if not link.exists():  # of a job of an array
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.relpath(self.logs / job_id, link.parent))
        return ids

    def _executor(self, root: Path, after: str | None) -> "_Executor":
        wanted = self.resources
        job_id = "%j" if len(self.jobs) == 1 else "%A_%a"
        pattern = str(self.logs).replace("%", "%%")
        # srun does not take the CPUs of each task from sbatch. If a rank dies, the others would wait for it.
        srun = ["srun", "--unbuffered", "--output", f"{pattern}/{job_id}/{job_id}_%t_log.out", "--kill-on-bad-exit=1"]
        if wanted.cpus_per_task:
            srun.append(f"--cpus-per-task={wanted.cpus_per_task}")
        executor = _Executor(self.logs / "%j", len(self.jobs), srun)
        setup = [
            f"job={_JOB_ID}",
            "job=${job:-$SLURM_JOB_ID}",
            f'mkdir -p {shlex.quote(str(self.logs))}/"$job"',
            f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "trap : TERM # this shell outlives its ranks",
        ]
        if not wanted.gpus:
            setup.append(f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{wanted.cpus_per_task or 1}}}")
        extra = {"requeue": True, "output": f"{pattern}/{job_id}_batch.out"}
        if after is not None:
            extra |= {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
        executor.update_parameters(
            job_name=self.name,
            partition=wanted.partition,
            time=wanted.minutes,
            nodes=wanted.nodes,
            ntasks_per_node=wanted.ranks_per_node,
            cpus_per_task=wanted.cpus_per_task,
            gpus_per_node=wanted.gpus or None,
            mem=None if wanted.mem_gb is None else f"{math.ceil(wanted.mem_gb * 1024)}M",
            account=wanted.account,
            qos=wanted.qos,
            constraint=wanted.constraint,
            signal_delay_s=wanted.signal_delay_s,
            wckey=None,
            stderr_to_stdout=True,
            setup=setup,
            teardown=_REQUEUE.splitlines(),
            use_srun=False,  # it is in the command: submitit takes a '%' in a folder's name for SLURM's
            additional_parameters=extra,
        )
        return executor


class _Executor(submitit.SlurmExecutor):
    """submitit's, but for the command of its jobs: theirs sets signal handlers of its own.

    Args:
        folder: of each job's logs, with its '%j'.
        jobs: how many are submitted.
        srun: the command that starts the ranks.
    """

    def __init__(self, folder: Path, jobs: int, srun: Sequence[str]) -> None:
        super().__init__(folder)
        self._jobs, self._srun = jobs, srun

    @property
    def _submitit_command_str(self) -> str:
        return f"{shlex.join(self._srun)} {self.python} -u -m parity.cluster.slurm_job {shlex.quote(str(self.folder))}"

    @classmethod
    def affinity(cls) -> int:
        return 2  # a script can be shown where there is no SLURM

    def script(self) -> str:
        """Return the batch script."""
        if self._jobs > 1:
            self.parameters["map_count"] = self._jobs
        return self._make_submission_file_text(self._submitit_command_str, "")


def plan(experiments: Sequence["Experiment"], args: argparse.Namespace, resources: Resources) -> list[Submission]:
    """Part experiments into what is submitted first and what after: several jobs must not each train their base model.

    Args:
        experiments: what ``args`` name.
        args: of ``train.py`` and of the job.
        resources: of each job.

    Returns:
        One submission, or two: of base models that are not trained yet, and of what needs them.

    Raises:
        ParityError: options that do not fit each other.
    """
    args = resources.options_of_job(args)
    _check_before_the_job_does(args)
    for experiment in experiments:
        experiment.check_config()
        experiment.get_model()
        _check_resumed(experiment, args)
    bases = {} if args.base_weights is not None else _untrained_bases(experiments)
    if len(experiments) == 1:
        bases = {}  # it trains its own
    first = {e.save_dir: _job(e, _options_of_one(e, args)) for e in experiments}
    rest = {folder: first.pop(folder) for folder in list(first) if folder not in bases}
    if not args.no_train_base:
        for folder in bases.keys() - first.keys():
            first[folder] = _job(bases[folder], _options_of_base(bases[folder], args))
    dataset = experiments[0].dataset
    parts = [list(part.values()) for part in (first, rest) if part]
    return [Submission.of(part, resources, dataset, experiments[0].base_directory / dataset) for part in parts]


def _job(experiment: "Experiment", args: argparse.Namespace) -> Job:
    what = f"{experiment.dataset} {experiment.experiment_name}"
    return Job(experiment.run_name, what, experiment.save_dir, args)


def _check_before_the_job_does(args: argparse.Namespace) -> None:
    """Raise what can be known here: a job may wait for hours before it raises it."""
    from parity.wandb_server import check_wandb_project

    if args.wandb_logger:
        check_wandb_project(args.wandb_project, args.wandb_id)
    for file in (args.base_weights, args.resume_from):
        if file is not None and not file.is_file():
            raise ParityError(f"there is no file {file}.")


def _check_resumed(experiment: "Experiment", args: argparse.Namespace) -> None:
    """Raise what keeps a job from resuming a run, or the base model that it trains first."""
    from parity.runs.training import RunOptions, check_resumed
    from parity.training import Hardware

    hardware = Hardware(options={"fast_dev_run": True} if args.fast_dev_run else {})
    check_resumed(experiment, RunOptions(hardware, resume=not args.force_no_resume, resume_from=args.resume_from))
    if args.base_weights is None:
        for base in _untrained_bases([experiment]).values():
            check_resumed(base, RunOptions(hardware))


def _untrained_bases(experiments: Sequence["Experiment"]) -> dict[Path, "Experiment"]:
    bases = [experiment.base_experiment for experiment in experiments if not experiment.is_base]
    return {base.save_dir: base for base in bases if base is not None and not base.folder.is_finished()}


def _options_of_one(experiment: "Experiment", args: argparse.Namespace) -> argparse.Namespace:
    """Return the options that train one experiment of those that ``args`` names."""
    args = _changed(args, experiment_name=[experiment.experiment_name])
    if not args.seeds and not args.sweep:
        return args
    overrides = [f"{path}={value}" for path, value in experiment.overrides.items()]
    return _changed(args, seed=experiment.seed, seeds=None, sweep=[], run_name=experiment.run_name, overrides=overrides)


def _options_of_base(base: "Experiment", args: argparse.Namespace) -> argparse.Namespace:
    """Return the options that train a base model as a parity experiment of ``args`` would train it."""
    return _changed(
        args,
        experiment_name=[base.experiment_name],
        collection=base.collection,
        run_name=None if base.run_name == base.experiment_name else base.run_name,
        seed=None,
        seeds=None,
        sweep=[],
        amp=False,
        overrides=[f"{path}={value}" for path, value in base.overrides.items()],
        force_no_resume=False,
        checkpoint_every=None,
        wandb_id=None,
        wandb_name=None,
    )


def _changed(args: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **changes})


def check_cluster() -> None:
    """Make sure that jobs can be submitted from here.

    Raises:
        ParityError: there is no SLURM.
    """
    if missing := [program for program in ("sbatch", "srun") if shutil.which(program) is None]:
        raise ParityError(
            f"there is no {missing[0]} on this machine: submit from a login node of a SLURM cluster, "
            "or see the batch script with --dry_run."
        )


def _make_private(logs: Path) -> None:
    """Make the folder of the jobs' pickles, which only their owner may write into: a job runs what they hold."""
    logs.mkdir(parents=True, exist_ok=True)
    logs.chmod(0o700)


@contextlib.contextmanager
def _no_traces_of_failure(logs: Path) -> Iterator[None]:
    """Turn a failed submission into one sentence, and remove the files that were written for it."""
    known = set(logs.iterdir()) if logs.is_dir() else set()
    missing = [folder for folder in (logs, *logs.parents) if not folder.exists()]
    try:
        yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        for path in set(logs.iterdir()) - known if logs.is_dir() else ():
            if path.name.startswith(".submission_file_") or path.suffix == ".pkl":
                path.unlink()
        with contextlib.suppress(OSError):  # one of them is not there, or holds something by now
            for folder in missing:
                folder.rmdir()
        if isinstance(error, OSError):
            raise ParityError(f"no job was submitted: {error.filename}: {error.strerror}.") from error
        reason = str(error).strip().splitlines() or ["sbatch gives no reason."]
        raise ParityError(
            f"SLURM refused the job: {reason[-1].removeprefix('sbatch: error: ').rstrip('.')}."
        ) from error
