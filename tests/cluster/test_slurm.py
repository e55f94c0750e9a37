"""Jobs on a real SLURM, that of .ci/slurm: what they leave is what uninterrupted training leaves.

Runs are of a network that sleeps in its steps, which changes no number. They are of two ranks, and 75 steps an epoch.
"""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from parity.command_line import run_command
from parity.experiments import catalogue
from parity.storage.locks import NAME, PERIOD
from parity.training.loop.checkpoints import check_checkpoint
from tests.conftest import ROOT, _script

OWN = Path(__file__).parent / "own"
FINISHED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY"}
LONG = 1500.0
"""Seconds until a test gives up; imports alone take half a minute on a busy machine of two cores."""


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    """Skip where no SLURM answers, or where one does that is for other things than tests."""
    if shutil.which("sinfo") is None:
        pytest.skip("there is no SLURM on this machine: .ci/slurm start (as root, on one made for tests)")
    try:
        config = ask("scontrol", "show", "config")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("SLURM does not answer: .ci/slurm start (as root, on a machine made for tests)")
    if re.search(r"^ClusterName\s*= parity$", config, re.MULTILINE) is None:
        pytest.skip("this SLURM is not that of .ci/slurm, and may have better things to do")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    for kill in (["--signal=KILL"], []):
        subprocess.run(["scancel", *kill, "--user=root"], capture_output=True, timeout=60, check=False)


def submit(folder: Path, *arguments: str) -> list[str]:
    """Call run_with_submitit.py in this process, and return the ids of its jobs."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    script = _script("run_with_submitit")
    options = ["--dataset", "Digits", "--base_directory", str(folder), "--gpus", "0", "--cpus_per_task", "1"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(catalogue, "_added_paths", [])
        assert run_command(script.main, script.get_parser().parse_args([*options, *arguments])) == 0
    return re.findall(r"^job (\S+) trains", printed.getvalue(), re.MULTILINE)


def submit_slow(folder: Path, epochs: int, seconds: float = 0.0, *arguments: str) -> tuple[str, Path]:
    """Submit a run of two ranks; return its job's id and its folder."""
    options = ["--experiments_path", str(OWN), "--experiment_name", "slow_base", "--tasks_per_node", "2"]
    overrides = ["--set", f"trainer.max_epochs={epochs}", f"model.seconds={seconds}"]
    (job,) = submit(folder, *options, *overrides, *arguments)
    return job, folder / "Digits" / "slow" / "slow_base"


def state(job: str) -> dict[str, str]:
    """Return what SLURM says of a job."""
    text = ask("scontrol", "-o", "show", "job", job)
    return dict(field.split("=", 1) for field in text.split() if "=" in field)


def of_job(job: str) -> list[int]:
    """Return the processes that run in a job: its batch script, srun and ranks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended
            if f"SLURM_JOB_ID={job}".encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def wait_for(what: Callable[[], bool], job: str, folder: Path) -> None:
    """Wait for something that a job does; fail if it ends without."""
    deadline = time.monotonic() + LONG
    while not what():
        if time.monotonic() > deadline or (state(job)["JobState"] in FINISHED and not what()):
            pytest.fail(f"job {job}: {state(job)}\n{log(folder, job)}")
        time.sleep(0.2)


def wait_for_epochs(epochs: int, job: str, folder: Path) -> None:
    """Wait until a run has finished so many epochs, and is in the midst of the next one."""
    table = folder / "metrics.csv"
    wait_for(lambda: table.exists() and len(table.read_text().splitlines()) > epochs, job, folder)


def wait_for_end(job: str, folder: Path, expected: str = "COMPLETED") -> dict[str, str]:
    """Wait until a job is gone for good, and return what SLURM says of it."""
    wait_for(lambda: state(job)["JobState"] in FINISHED, job, folder)
    assert state(job)["JobState"] == expected, log(folder, job)
    return state(job)


def log(folder: Path, job: str, rank: int = 0) -> str:
    """Return what a rank of a job has said, of all its starts."""
    path = folder / "slurm_logs" / job / f"{job}_{rank}_log.out"
    batch = folder / "slurm_logs" / f"{job}_batch.out"
    return "\n".join(file.read_text() for file in (path, batch) if file.exists())


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], str, str]:
    weights = check_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return weights, (folder / "metrics.csv").read_text(), (folder / "test_metrics.json").read_text()


def assert_same_end(run: Path, whole: Path) -> None:
    weights, *metrics = outcome(run)
    expected, *expected_metrics = outcome(whole)
    assert metrics == expected_metrics
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, slurm: None) -> Callable[[int], Path]:
    """The folder of an uninterrupted run of so many epochs, of two ranks as the others."""
    done: dict[int, Path] = {}

    def train(epochs: int) -> Path:
        if epochs not in done:
            job, folder = submit_slow(tmp_path_factory.mktemp("whole"), epochs)
            wait_for_end(job, folder)
            assert "epoch 1/" in log(folder, job)
            assert "epoch 1/" not in log(folder, job, rank=1)  # one of them speaks
            done[epochs] = folder
        return done[epochs]

    return train


@pytest.mark.timeout(1800)
def test_a_job_that_is_requeued_goes_on_to_the_same_end(tmp_path: Path, whole: Callable[[int], Path]) -> None:
    job, folder = submit_slow(tmp_path, 4, 0.05, "--timeout_min", "10", "--mem_gb", "1")
    wait_for_epochs(1, job, folder)
    ask("scontrol", "requeue", job)
    assert wait_for_end(job, folder)["Restarts"] == "1"
    said = log(folder, job)
    assert "start 2" in said
    assert re.search(r"resuming after epoch [123]\b", said)
    assert said.count("epoch 1/4") == 1
    assert_same_end(folder, whole(4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_whose_time_is_over_requeues_itself(
    tmp_path: Path, whole: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    limits = ("--timeout_min", "2", "--signal_delay_s", "30")
    job, folder = submit_slow(tmp_path, 14, 0.08, *limits, "--wandb_logger", "--wandb_project", "tests")
    end = wait_for_end(job, folder)
    assert int(end["Restarts"]) >= 1
    assert end["TimeLimit"] == "00:02:00"
    said = log(folder, job)
    assert "stopped by SIGUSR2" in said
    assert re.search(r"saved after step \d+ of epoch \d+", said), "the signal came between two epochs, of all moments"
    assert said.count("epoch 1/14") == 1
    starts = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(starts) == int(end["Restarts"]) + 1
    assert len({path.name for path in starts}) == 1  # one and the same W&B run
    assert_same_end(folder, whole(14))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_scancel_saves_and_ends_without_requeueing(tmp_path: Path, whole: Callable[[int], Path]) -> None:
    job, folder = submit_slow(tmp_path, 4, 0.05)
    wait_for_epochs(1, job, folder)
    time.sleep(0.3)  # the row is written before the checkpoint is, and a signal in between finds no step to save
    ask("scancel", job)
    assert wait_for_end(job, folder, "CANCELLED")["Restarts"] == "0"
    assert "stopped by SIGTERM" in log(folder, job)
    assert "requeueing" not in log(folder, job)
    assert re.search(r"saved after step \d+ of epoch [234]", log(folder, job))
    again, _ = submit_slow(tmp_path, 4, 0.05)
    wait_for_end(again, folder)
    assert "resuming after epoch" in log(folder, again)
    assert_same_end(folder, whole(4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_preempted_job_requeues_itself(tmp_path: Path, whole: Callable[[int], Path]) -> None:
    job, folder = submit_slow(tmp_path, 4, 0.05)
    wait_for_epochs(1, job, folder)
    ask("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap", "true")
    assert wait_for_end(job, folder)["Restarts"] == "1"
    assert "stopped by SIGTERM" in log(folder, job)
    assert "requeueing" in log(folder, job)
    assert log(folder, job).count("epoch 1/4") == 1
    assert_same_end(folder, whole(4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_preempted_before_is_cancelled_for_good(tmp_path: Path) -> None:
    job, folder = submit_slow(tmp_path, 4, 0.2)
    wait_for_epochs(1, job, folder)
    ask("sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap", "true")
    wait_for(lambda: "resuming after" in log(folder, job), job, folder)
    ask("scancel", job)
    assert wait_for_end(job, folder, "CANCELLED")["Restarts"] == "1"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_signal_before_training_loses_nothing(tmp_path: Path, whole: Callable[[int], Path]) -> None:
    job, folder = submit_slow(tmp_path, 4)
    wait_for(lambda: state(job)["JobState"] == "RUNNING", job, folder)
    rank_log = folder / "slurm_logs" / job / f"{job}_0_log.out"
    wait_for(rank_log.exists, job, folder)  # its process has just begun
    ask("scancel", "--signal=USR2", job)
    assert wait_for_end(job, folder)["Restarts"] == "1"
    assert "requeueing" in log(folder, job)
    assert_same_end(folder, whole(4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_collection_is_an_array_after_its_base_model(tmp_path: Path) -> None:
    base, *jobs = submit(tmp_path, "--experiment_name", "mlp_k[234]_add", "--set", "trainer.max_epochs=2")
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2"]
    runs = tmp_path / "Digits" / "original"
    for job, name in ((base, "mlp_base"), *zip(jobs, ("mlp_k2_add", "mlp_k3_add", "mlp_k4_add"), strict=True)):
        wait_for_end(job, runs / name)
        assert (runs / name / "test_metrics.json").exists()
        assert f"Digits {name}" in log(runs / name, job)  # its logs are found in its own folder too
        assert "is not trained yet" not in log(runs / name, job)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_suspended_job_whose_run_another_host_takes_over_ends_in_one_sentence(
    tmp_path: Path, whole: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PERIOD, "5")  # sbatch hands it to the job
    job, folder = submit_slow(tmp_path, 4, 0.05, "--timeout_min", "10")
    wait_for_epochs(1, job, folder)
    ask("scontrol", "suspend", job)
    wait_for(lambda: state(job)["JobState"] == "SUSPENDED", job, folder)
    time.sleep(6)
    options = ["--dataset", "Digits", "--base_directory", str(tmp_path), "--experiments_path", str(OWN),
               "--experiment_name", "slow_base", "--accelerator", "cpu", "--devices", "2", "--distributed",
               "--set", "trainer.max_epochs=4", "model.seconds=0.05"]  # fmt: skip
    command = ["unshare", "--uts", "sh", "-c", 'hostname another; exec "$@"', "sh", sys.executable, ROOT / "train.py"]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as other:
        lock = folder / NAME
        wait_for(lambda: '"another"' in lock.read_text() or other.poll() is not None, job, folder)
        ask("scontrol", "resume", job)
        wait_for_end(job, folder, "FAILED")
        assert "has lost the lock of" in log(folder, job)
        assert other.wait(LONG) == 0, other.communicate()[1]
    assert_same_end(folder, whole(4))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks_die", [True, False])
def test_a_job_whose_node_dies_is_requeued_and_goes_on_to_the_same_end(
    tmp_path: Path, whole: Callable[[int], Path], ranks_die: bool
) -> None:
    """slurmd and what it starts are killed; the ranks die too, or live on unseen while the requeued job takes over."""
    job, folder = submit_slow(tmp_path, 4, 0.05, "--timeout_min", "10")
    wait_for_epochs(1, job, folder)
    node = state(job)["NodeList"]
    dying = [int(Path("/var/lib/parity-slurm/slurmd.pid").read_text())]
    # A step's daemon that outlived its node would tell SLURM of the job's end, which cancels the requeued one.
    dying += map(int, ask("pgrep", "--full", rf"^slurmstepd: \[{job}\.").split())
    ranks = of_job(job)
    assert len(ranks) >= 2
    for pid in dying + (ranks if ranks_die else []):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    wait_for(lambda: state(job)["Restarts"] == "1", job, folder)
    ask(str(ROOT / ".ci" / "slurm"), "start")  # and waits until the node is back
    wait_for_end(job, folder)
    assert_same_end(folder, whole(4))
