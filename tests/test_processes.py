"""Which process prints: what was asked for decides, not what lies in the environment."""

import pytest

from parity import processes

LEFTOVERS = {
    "SLURM_PROCID": "2", "SLURM_LOCALID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "LOCAL_RANK": "1", "RANK": "3",
    "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "NODE_RANK": "1", "GROUP_RANK": "1",
    "PMI_RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "JSM_NAMESPACE_RANK": "2", "LSB_JOBID": "3",
    "KUBERNETES_PORT": "tcp://10.0.0.1:443", "TPU_NAME": "none",
}  # fmt: skip
"""What schedulers and launchers leave to processes that they did not start to train together."""


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEFTOVERS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("started", [{}, {"SLURM_STEP_ID": "0"}, {"TORCHELASTIC_RUN_ID": "none"}])
def test_a_single_process_prints_whatever_the_environment(
    leftovers: None, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert processes.is_first(1)


def test_leftovers_do_not_silence_the_process_that_starts_the_others(leftovers: None) -> None:
    assert processes.is_first(4)


@pytest.mark.parametrize(
    ("launcher", "rank"), [({"SLURM_STEP_ID": "0"}, "SLURM_PROCID"), ({"TORCHELASTIC_RUN_ID": "none"}, "RANK")]
)
def test_of_several_that_were_started_together_the_first_prints(
    leftovers: None, launcher: dict[str, str], rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert not processes.is_first(4)
    monkeypatch.setenv(rank, "0")
    assert processes.is_first(4)


def test_a_batch_script_or_a_notebook_is_not_a_step(leftovers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.srun_tasks() is None
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert processes.srun_tasks() == 4
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")  # srun --pty bash, in a job of four tasks
    assert processes.srun_tasks() == 1
