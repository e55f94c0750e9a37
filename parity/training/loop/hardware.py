"""Where a run trains, and Lightning's Trainer for it."""

import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from parity import processes
from parity.data import GroupDataModule
from parity.errors import ParityError, cause, did_you_mean
from parity.training.loop import ranks
from parity.training.loop.bursts import BurstData
from parity.training.loop.lit_module import BurstModule
from parity.training.loop.memory import keep_freed_memory
from parity.training.loop.optimizer_steps import StepOptions

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_REFUSED = {
    "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_val_batches", "val_check_interval",
    "check_val_every_n_epoch", "overfit_batches",
}  # fmt: skip
_OURS = {"accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"}

_DEVICES = re.compile(r"auto|-1|[1-9]\d{0,5}|\d+,|\d+(, *\d+)+,?|\[\d+(, *\d+)*\]", re.ASCII)
_PROCESSES_PER_CPU = 8


@dataclass(frozen=True)
class Hardware:
    """Where a run trains: nothing in here changes what it computes, but for rounding and for a batch per device."""

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    distributed: bool = False
    sync_batchnorm: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of Lightning's Trainer, e.g. ``fast_dev_run``."""
    fast: bool = False
    """Whether cuDNN may choose kernels that are faster, but round otherwise in every run, and TF32 for convolutions."""

    @property
    def processes_per_node(self) -> int:
        """How many processes train together on each node, one for each device."""
        return processes.on_each_node(self.accelerator, self.devices)

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.processes_per_node * self.num_nodes

    @property
    def several(self) -> bool:
        """Whether processes train together, by DDP."""
        return self.distributed or self.processes > 1


def split_trainer_args(trainer: Mapping[str, Any], track_grad_norm: bool = False) -> tuple[StepOptions, dict[str, Any]]:
    """Part a config's ``trainer`` into what a step does itself and what Lightning's Trainer is given.

    Raises:
        ParityError: a value that makes no sense, or an argument that counts Lightning's batches, which are bursts here.
    """
    if refused := sorted(_REFUSED & trainer.keys()):
        raise ParityError(f"trainer.{refused[0]} is not supported: a run is counted in epochs, validated after each.")
    if (precision := trainer.get("precision", "32-true")) not in PRECISIONS:
        raise ParityError(f"trainer.precision = {precision} is not supported: 32-true, bf16-mixed and 16-mixed are.")
    for name, most in (("max_epochs", int), ("accumulate_grad_batches", int), ("gradient_clip_val", (int, float))):
        value = trainer.get(name)
        if value is not None and (not isinstance(value, most) or isinstance(value, bool) or not value > 0):
            raise ParityError(f"trainer.{name} must be a number above 0, not {value!r}.")
    if (algorithm := trainer.get("gradient_clip_algorithm", "norm")) not in ("norm", "value"):
        raise ParityError(f"trainer.gradient_clip_algorithm is 'norm' or 'value', not {algorithm!r}.")
    options = StepOptions(track_grad_norm=track_grad_norm, **{name: trainer[name] for name in _OURS & trainer.keys()})
    return options, {name: value for name, value in trainer.items() if name not in _OURS}


class OwnProcesses(LightningEnvironment):
    """Processes that the first one on each node starts; of the environment, only what it has set for them counts.

    Args:
        num_nodes: with several, ``NODE_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT`` count too: a person sets them.
    """

    def __init__(self, num_nodes: int = 1) -> None:
        super().__init__()
        self._several_nodes = num_nodes > 1

    @property
    def creates_processes_externally(self) -> bool:
        return processes.launched() or torch.distributed.is_initialized()

    def local_rank(self) -> int:
        return super().local_rank() if processes.launched() else 0

    def node_rank(self) -> int:
        return super().node_rank() if self._several_nodes else 0

    @property
    def main_address(self) -> str:
        return super().main_address if processes.launched() or self._several_nodes else "127.0.0.1"

    @property
    def main_port(self) -> int:
        if not processes.launched() and not self._several_nodes and self._main_port == -1:
            self._main_port = find_free_network_port()
        return super().main_port


class SrunStep(SLURMEnvironment):
    """The tasks of an srun step; Lightning's own checks ask for options of sbatch that a step can do without."""

    @staticmethod
    def _validate_srun_used() -> None:
        pass

    @staticmethod
    def _validate_srun_variables() -> None:
        pass

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        pass

    def world_size(self) -> int:
        return processes.srun_tasks() or 1


def cluster_environment(hardware: Hardware) -> ClusterEnvironment:
    """Return who has started, or is to start, the processes that were asked for.

    Raises:
        ParityError: srun has started another number of them, or nobody starts those of other nodes.
    """
    wanted = hardware.processes
    if wanted == 1 or processes.launched():
        return OwnProcesses(hardware.num_nodes)
    if processes.torchrun_workers() == wanted:
        return TorchElasticEnvironment()
    tasks = processes.srun_tasks() or 1
    if tasks == wanted:
        return SrunStep()
    asked = f"--devices {hardware.devices} and --num_nodes {hardware.num_nodes} ask for {wanted} processes"
    if tasks > 1:
        raise ParityError(f"srun has started {tasks} tasks, and {asked}: give srun --ntasks={wanted}.")
    if LSFEnvironment.detect() and os.environ["JSM_NAMESPACE_SIZE"] == str(wanted):  # else it would set MASTER_ADDR
        return _lsf_environment()
    if MPIEnvironment.detect() and (environment := MPIEnvironment()).world_size() == wanted:
        return environment
    if hardware.num_nodes > 1 and not _set_by_a_person():
        raise ParityError(
            f"{asked}: start them with srun or torchrun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each node."
        )
    return OwnProcesses(hardware.num_nodes)


def _set_by_a_person() -> bool:
    """Return whether the environment has this node's number and the first one's address: else nodes wait for ever."""
    node, port = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "")), os.environ.get("MASTER_PORT", "")
    return bool(os.environ.get("MASTER_ADDR")) and node.isdecimal() and port.isdecimal()


def _lsf_environment() -> LSFEnvironment:
    try:
        return LSFEnvironment()
    except Exception as error:  # what a job's variables name may not be there
        raise ParityError(
            f"the variables of an LSF job are set and cannot be used ({cause(error).rstrip('.')}): start the processes "
            "with jsrun in a job of its own, or train on one device."
        ) from error


def make_trainer(hardware: Hardware, plugins: Sequence[Any] = (), **kwargs: Any) -> pl.Trainer:
    """Return Lightning's Trainer, quiet, with what all our runs have in common.

    Args:
        hardware: where it trains.
        plugins, kwargs: more of its arguments.

    Raises:
        ParityError: the hardware is not there, or Lightning does not know an argument.
    """
    _quieten()
    _check_hardware(hardware)
    set_numerics(hardware.fast)
    # DDP's own way would copy rank 0's buffers in every forward pass, even where ranks have not the same number.
    strategy = DDPStrategy(broadcast_buffers=False) if hardware.several else "auto"
    try:
        trainer = pl.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.processes_per_node if str(hardware.devices) in ("auto", "-1") else hardware.devices,
            num_nodes=hardware.num_nodes,
            strategy=strategy,
            plugins=[cluster_environment(hardware), *plugins],
            sync_batchnorm=hardware.sync_batchnorm,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **hardware.options,
            **kwargs,
        )
    except ParityError:
        raise
    except Exception as error:  # Lightning raises errors of many kinds
        raise ParityError(f"Lightning cannot train like this: {cause(error)}") from error
    if not hardware.several:
        rank_zero_only.rank = ranks.rank()  # type: ignore[attr-defined]  # at import, Lightning guesses it from the environment
    if hardware.sync_batchnorm and trainer.strategy.root_device.type == "cpu":
        raise ParityError("PyTorch synchronises batch normalisation on GPUs only: leave out --sync_batchnorm.")
    keep_freed_memory(trainer.strategy.root_device)
    # Signals are ours (parity.training.loop.signals); Lightning's handlers would start to communicate amid anything.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def set_numerics(fast: bool) -> None:
    """Set how this process computes on GPUs.

    Convolutions are deterministic and IEEE float32 by default, so that a run that is stopped and resumed ends as one
    that is not. Other products are IEEE float32 in any case: codes are made of them.

    Args:
        fast: let cuDNN try kernels and take the fastest, and use TF32 in convolutions.
    """
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = not fast, fast
    torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cuda.matmul.allow_tf32 = False


def _check_hardware(hardware: Hardware) -> None:
    if hardware.accelerator not in ACCELERATORS:
        nearest = did_you_mean(str(hardware.accelerator), ACCELERATORS)
        raise ParityError(f"the accelerator '{hardware.accelerator}' is not supported: {nearest}")
    if not _DEVICES.fullmatch(str(hardware.devices)):
        raise ParityError(f"--devices is a number, indices such as 0,1, or auto, not '{hardware.devices}'.")
    cpus = os.cpu_count() or 1
    if hardware.processes_per_node > _PROCESSES_PER_CPU * max(cpus, torch.cuda.device_count()):
        raise ParityError(f"--devices {hardware.devices} is too many: this machine has {cpus} CPUs.")


def evaluate_on_test(
    module: BurstModule, datamodule: GroupDataModule, hardware: Hardware = Hardware()
) -> dict[str, float]:
    """Evaluate on test data, once: the same metrics as during training, named 'test/...'."""
    trainer = make_trainer(hardware, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    ranks.join(trainer)
    (metrics,) = trainer.test(module, datamodule=BurstData(datamodule), verbose=False)
    return {name: value for name, value in metrics.items() if name != "step"}


_NOT_FOR_OURS = (
    "in eval mode at the start of training",  # the base model: it should be
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "It is recommended to use `self.log.*sync_dist",  # metrics are in sync
    "number of training batches.*smaller than the logging interval",
    "Total length of `list` across ranks is zero",  # no validation data
    "sampler has shuffling enabled",  # a user may wish so
    "The `srun` command is available on your system",
)
"""Lightning's warnings, as regular expressions."""


def _quieten() -> None:
    """Keep Lightning's greetings and advice for other loops than ours out of a run's output."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in _NOT_FOR_OURS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")
    # Lightning makes torch ask NVML whether there is a GPU, so that forked processes can still start CUDA. Optimisers
    # ask in every step; without a GPU each time opens a missing library, 0.1 ms or a tenth of a small network's step.
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
