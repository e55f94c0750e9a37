"""Experiments as SLURM jobs: what is asked of the cluster, which jobs come first, and their batch scripts."""

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
from typing import TYPE_CHECKING, Any, Protocol, Self

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from parity.cluster.slurm_job import REQUEUE_ME, TrainingJob
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.experiments import Experiment

LOGS = "slurm_logs"

_JOB_ID = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"

# After srun, when all ranks are gone. SIGUSR1 and SIGUSR2 are the cluster's warning; 138 and 140 is a rank that had not
# begun to listen. Where no warning came, the end of the time or a preemption shows in what the cluster says of the job.
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
  echo "error: job $job could not be requeued; the same command goes on where it was stopped"
fi
exit "$status"
""".strip()


@dataclass(frozen=True)
class Resources:
    """What a job asks the cluster for; None leaves it to the cluster.

    Args:
        gpus: per node; 0 is a job on CPUs.
        nodes: how many.
        tasks_per_node: ranks on each node; by default one for each GPU.
        partition, account, qos, constraint, job_name: as SLURM has them.
        timeout: hours.
        timeout_min: minutes, instead.
        cpus_per_task: of each rank.
        mem_gb: of each node.
        signal_delay_s: how long before the end of its time a job is told to save and requeue itself.

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
        if self.gpus < 0:
            raise ParityError(f"--gpus must be 0 or more, not {self.gpus}.")
        if self.gpus and self.tasks_per_node not in (None, self.gpus):
            raise ParityError(
                f"--tasks_per_node {self.tasks_per_node} does not fit --gpus {self.gpus}: each rank has one GPU."
            )
        if self.minutes is not None and self.minutes * 60 <= self.signal_delay_s:
            raise ParityError(
                f"--signal_delay_s {self.signal_delay_s} is no shorter than the job's time, {self.minutes} minutes: "
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


class Submitted(Protocol):
    """What a job does: trains an experiment, or runs a share of a study (``parity.analyses.submission.Share``)."""

    @property
    def save_dir(self) -> Path: ...
    @property
    def base_directory(self) -> Path: ...
    @property
    def dataset(self) -> str: ...
    @property
    def run_name(self) -> str: ...
    @property
    def experiment_name(self) -> str: ...


@dataclass(frozen=True)
class Submission:
    """What one sbatch submits: a job, or an array with a job for each of several experiments.

    Args:
        experiments: what is trained, each in a job of its own.
        arguments: of ``train.py``, for each.
        resources: of each job.
    """

    experiments: Sequence[Submitted]
    arguments: Sequence[argparse.Namespace]
    resources: Resources

    @property
    def logs(self) -> Path:
        """The folder with a folder of logs for each job: of the run, or of the data set where there are several."""
        first = self.experiments[0]
        folder = first.save_dir if len(self.experiments) == 1 else first.base_directory / first.dataset
        return folder.absolute() / LOGS

    @property
    def name(self) -> str:
        """What it is called in SLURM's queue."""
        first = self.experiments[0]
        return self.resources.job_name or (first.run_name if len(self.experiments) == 1 else first.dataset)

    def script(self, root: Path, after: str | None = None) -> str:
        """Return the batch script.

        Args:
            root: folder of ``train.py``.
            after: job that must have ended well before.
        """
        return self._executor(root, after).script(len(self.experiments))

    def submit(self, main: Callable[[argparse.Namespace], object], root: Path, after: str | None = None) -> list[str]:
        """Submit it and return the jobs' ids.

        Args:
            main: of ``train.py``.
            root: its folder.
            after: job that must have ended well before.

        Raises:
            ParityError: SLURM refuses it, or the folder for logs cannot be written; nothing is left then.
        """
        executor = self._executor(root, after)
        with _no_traces_of_failure(self.logs), contextlib.redirect_stderr(io.StringIO()):
            jobs = []
            with executor.batch():
                for experiment, args in zip(self.experiments, self.arguments, strict=True):
                    jobs.append(executor.submit(TrainingJob(main, args, experiment.save_dir.absolute())))
        ids = [job.job_id for job in jobs]
        for experiment, job_id in zip(self.experiments, ids, strict=True):
            link = experiment.save_dir.absolute() / LOGS / job_id
            if not link.exists():  # of a job of an array
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.relpath(self.logs / job_id, link.parent))
        return ids

    def _executor(self, root: Path, after: str | None) -> "_Executor":
        wanted = self.resources
        executor = _Executor(self.logs / "%j")
        setup = [
            f"job={_JOB_ID}",
            "job=${job:-$SLURM_JOB_ID}",
            f'mkdir -p {shlex.quote(str(self.logs))}/"$job"',
            f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "trap : TERM # this shell outlives its ranks",
        ]
        if not wanted.gpus:
            setup.append(f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{wanted.cpus_per_task or 1}}}")
        extra = {"requeue": True, "output": f"{self.logs}/{'%j' if len(self.experiments) == 1 else '%A_%a'}_batch.out"}
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
            # srun does not take the CPUs of each task from sbatch. If a rank dies, the others would wait for it.
            srun_args=["--kill-on-bad-exit=1"]
            + ([f"--cpus-per-task={wanted.cpus_per_task}"] if wanted.cpus_per_task else []),
            additional_parameters=extra,
        )
        return executor


class _Executor(submitit.SlurmExecutor):
    """submitit's, but for what a job runs: it leaves signals alone."""

    @property
    def _submitit_command_str(self) -> str:
        return f"{self.python} -u -m parity.cluster.slurm_job {shlex.quote(str(self.folder))}"

    @classmethod
    def affinity(cls) -> int:
        return 2  # a script can be shown where there is no SLURM

    def script(self, jobs: int) -> str:
        """Return the batch script of so many jobs."""
        if jobs > 1:
            self.parameters["map_count"] = jobs
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
        if "%" in str(experiment.save_dir.absolute()):
            raise ParityError(
                f"SLURM takes % for a pattern in {experiment.save_dir}: choose another --run_name or folder."
            )
        experiment.check_config()
        experiment.get_model()
    bases = {} if args.base_weights is not None else _untrained_bases(experiments)
    if len(experiments) == 1:
        bases = {}  # it trains its own
    first = {e.save_dir: (e, _changed(args, experiment_name=[e.experiment_name])) for e in experiments}
    rest = {folder: first.pop(folder) for folder in list(first) if folder not in bases}
    if not args.no_train_base:
        for folder in bases.keys() - first.keys():
            first[folder] = (bases[folder], _options_of_base(bases[folder], args))
    parts = [list(part.values()) for part in (first, rest) if part]
    return [Submission([e for e, _ in part], [options for _, options in part], resources) for part in parts]


def _check_before_the_job_does(args: argparse.Namespace) -> None:
    """Raise what can be known here: a job may wait for hours before it says so."""
    from parity.wandb_server import check_wandb_project

    if args.wandb_logger:
        check_wandb_project(args.wandb_project, args.wandb_id)
    for file in (args.base_weights, args.resume_from):
        if file is not None and not file.is_file():
            raise ParityError(f"there is no file {file}.")


def _untrained_bases(experiments: Sequence["Experiment"]) -> dict[Path, "Experiment"]:
    from parity.experiments.experiment import TEST_FILE

    bases = [experiment.base_experiment for experiment in experiments if not experiment.is_base]
    return {base.save_dir: base for base in bases if base is not None and not (base.save_dir / TEST_FILE).exists()}


def _options_of_base(base: "Experiment", args: argparse.Namespace) -> argparse.Namespace:
    """Return the options that train a base model as a parity experiment of ``args`` would train it."""
    return _changed(
        args,
        experiment_name=[base.experiment_name],
        collection=base.collection,
        seed=None,
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
        reason = str(error).strip().splitlines() or ["sbatch does not say why."]
        raise ParityError(
            f"SLURM refused the job: {reason[-1].removeprefix('sbatch: error: ').rstrip('.')}."
        ) from error
