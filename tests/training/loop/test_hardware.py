"""Lightning's Trainer as it is made for a run: on one device whatever the environment, on several with whom fits."""

import os
from typing import Any
from unittest import mock

import pytest
import torch
from lightning_fabric.plugins.environments import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from parity.errors import ParityError
from parity.training import Hardware
from parity.training.loop.hardware import OwnProcesses, SrunStep, cluster_environment, make_trainer, split_trainer_args
from tests.emulated_device import emulated
from tests.test_processes import LEFTOVERS

STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NODEID": "1", "SLURM_JOB_ID": "17"}


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEFTOVERS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 2)  # Lightning's guess at import


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("started", [{}, STEP, {"TORCHELASTIC_RUN_ID": "none"}])
def test_on_one_device_ranks_in_the_environment_do_not_count(
    leftovers: None, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with SLURM_NTASKS=4 and no SLURM_NTASKS_PER_NODE, as in a notebook on a cluster."""
    set_all(monkeypatch, started)
    trainer = make_trainer(Hardware("cpu"), logger=False, enable_checkpointing=False)
    assert (trainer.global_rank, trainer.world_size, trainer.is_global_zero) == (0, 1, True)
    assert rank_zero_only.rank == 0


@pytest.mark.parametrize("started", [{}, {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}])
def test_two_devices_in_a_batch_script_start_their_processes_themselves(
    leftovers: None, started: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0", **started})
    environment = cluster_environment(Hardware("cpu", 2))
    assert isinstance(environment, OwnProcesses)
    assert not environment.creates_processes_externally
    assert (environment.local_rank(), environment.node_rank(), environment.main_address) == (0, 0, "127.0.0.1")
    assert environment.main_port not in (0, 1)
    trainer = make_trainer(Hardware("cpu", 2), logger=False, enable_checkpointing=False)
    assert (trainer.global_rank, trainer.world_size) == (0, 2)


def test_the_tasks_of_an_srun_step_are_the_ranks(leftovers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without --ntasks-per-node, which Lightning asks for."""
    set_all(monkeypatch, {**STEP, "SLURM_LOCALID": "0"})
    environment = cluster_environment(Hardware("cpu", 2, num_nodes=2))
    assert isinstance(environment, SrunStep)
    environment.validate_settings(2, 2)
    ranks = environment.global_rank(), environment.local_rank(), environment.node_rank()
    assert (ranks, environment.world_size()) == ((2, 0, 1), 4)
    with pytest.raises(ParityError, match="srun has started 4 tasks, and --devices 3"):
        cluster_environment(Hardware("cpu", 3))


def test_torchruns_workers_are_the_ranks_if_they_are_as_many(leftovers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert isinstance(cluster_environment(Hardware("cpu", 4)), TorchElasticEnvironment)
    assert isinstance(cluster_environment(Hardware("cpu", 2)), OwnProcesses)


def test_several_nodes_need_somebody_who_starts_their_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ParityError, match="start them with srun or torchrun"):
        cluster_environment(Hardware("cpu", 1, num_nodes=2))
    set_all(monkeypatch, {"MASTER_ADDR": "first", "MASTER_PORT": "1234", "NODE_RANK": "1"})
    environment = cluster_environment(Hardware("cpu", 1, num_nodes=2))
    assert (environment.main_address, environment.main_port, environment.node_rank()) == ("first", 1234, 1)


@pytest.mark.parametrize(
    "given",
    [
        {
            "MASTER_ADDR": "first",
            "MASTER_PORT": "1234",
        },  # as Kubeflow sets them, beside RANK: all nodes would be rank 0
        {"MASTER_ADDR": "first", "NODE_RANK": "1"},  # each node would listen at a port of its own
        {"MASTER_ADDR": "first", "MASTER_PORT": "1234", "NODE_RANK": "second"},
        {"MASTER_ADDR": "first", "MASTER_PORT": "", "NODE_RANK": "1"},
    ],
)
def test_nodes_that_would_wait_for_ever_are_refused(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    set_all(monkeypatch, {**given, "RANK": "1", "WORLD_SIZE": "2"})
    with pytest.raises(ParityError, match="set MASTER_ADDR, MASTER_PORT and NODE_RANK on each node"):
        cluster_environment(Hardware("cpu", 1, num_nodes=2))


def test_some_variables_of_torchrun_alone_are_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    set_all(monkeypatch, {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1"})
    assert isinstance(cluster_environment(Hardware("cpu", 2)), OwnProcesses)


@pytest.mark.parametrize(
    ("devices", "processes"), [(1, 1), ("1", 1), (3, 3), ("3", 3), ("0,2", 2), ("2,", 1), ("auto", 1), ("-1", 1)]
)
def test_devices_are_counted(devices: int | str, processes: int) -> None:
    assert Hardware("cpu", devices).processes == processes


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        (Hardware("cup"), "did you mean 'cpu'"),
        (Hardware("tpu"), "'tpu' is not supported"),
        (Hardware("cpu", "two"), "not 'two'"),
        (Hardware("cpu", "0"), "not '0'"),
        (Hardware("cpu", 100_000), "too many"),
        (Hardware("cpu", "0,1"), "Lightning cannot train"),
        (Hardware("cpu", 1, num_nodes=0), "num_nodes"),
    ],
)
def test_hardware_that_is_not_there(hardware: Hardware, message: str) -> None:
    with pytest.raises(ParityError, match=message) as raised:
        make_trainer(hardware)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("precision", [64, 32, "64-true", "16-true", "transformer-engine", "half", None])
def test_a_precision_that_is_not_supported(precision: Any) -> None:
    with pytest.raises(ParityError, match="32-true, bf16-mixed and 16-mixed are"):
        split_trainer_args({"precision": precision})


def test_an_lsf_job_without_its_file_of_ranks_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"LSB_JOBID": "17", "LSB_DJOB_RANKFILE": "/nowhere/ranks", "JSM_NAMESPACE_LOCAL_RANK": "0"}
    set_all(monkeypatch, {**job, "JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "0"})
    with pytest.raises(ParityError, match=r"variables of an LSF job .* \(FileNotFoundError: .*ranks.*: start .* jsrun"):
        cluster_environment(Hardware("cpu", 2))
    assert isinstance(cluster_environment(Hardware("cpu", 3)), OwnProcesses)
    assert isinstance(cluster_environment(Hardware("cpu")), OwnProcesses)
    assert "MASTER_ADDR" not in os.environ, "a job of another size leaves nothing in the environment"


@pytest.mark.parametrize("fast", [True, False])
def test_convolutions_are_deterministic_and_exact_unless_fast_ones_are_asked_for(fast: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not fast
    make_trainer(Hardware("cpu", fast=fast), logger=False, enable_checkpointing=False)
    cudnn = torch.backends.cudnn
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32) == (not fast, fast, fast)
    assert not torch.backends.cuda.matmul.allow_tf32, "codes are made of products"


@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_all_devices_of_a_machine_with_several_are_several(accelerator: str) -> None:
    with emulated(), mock.patch.object(torch.cuda, "device_count", return_value=2):
        trainer = make_trainer(Hardware(accelerator, "auto"), logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy, DDPStrategy)
    assert (trainer.world_size, trainer.strategy._ddp_kwargs["broadcast_buffers"]) == (2, False)
