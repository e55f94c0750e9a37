"""Which of the processes that train together this one is; light to import.

What was asked for decides how many there are. Only where there are several does the environment decide which one this
is, and only what a launcher of exactly so many has set: shells, notebooks and the tasks of a cluster leave
``SLURM_PROCID``, ``LOCAL_RANK`` or ``RANK`` to processes that train alone.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_PARENT = "PARITY_LAUNCHER"
"""The process that is starting others; they know it for their parent, and nobody else does."""

_LAUNCHED = os.environ.pop(_PARENT, None) == str(os.getppid())


def on_each_node(accelerator: str, devices: int | str) -> int:
    """Return how many processes are asked for on each node, one for each device.

    Args:
        accelerator: as Lightning names it.
        devices: a number, indices such as '0,1', or 'auto'.
    """
    devices = str(devices)
    if devices in ("auto", "-1"):
        import torch  # only here: most options are read without it

        return max(1, torch.cuda.device_count()) if accelerator in ("auto", "cuda", "gpu") else 1
    if "," in devices:
        return len([index for index in devices.split(",") if index.strip()])
    return _number(devices) or 1


def _number(text: str) -> int | None:
    """Return the number that a few decimal digits stand for; None for any other text."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def launched() -> bool:
    """Return whether another process of this package has started this one to train with it."""
    return _LAUNCHED


@contextmanager
def launching() -> Iterator[None]:
    """Within this block, processes that run this very command line are ``launched``."""
    os.environ[_PARENT] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_PARENT]


def srun_tasks() -> int | None:
    """Return the number of tasks of the srun step that this process is one of; None outside a step.

    A batch script, or a notebook on a cluster, has the job's variables (``SLURM_NTASKS``, even ``SLURM_PROCID``), and
    is not a step.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", os.environ.get("SLURM_NTASKS", ""))
    return _number(tasks) if "SLURM_STEP_ID" in os.environ else None


def torchrun_workers() -> int | None:
    """Return the number of processes that torchrun has started, this one among them; None if it has not."""
    # Where a rank is not set, too, the others are left from another process.
    ranks = (os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"))
    is_worker = "TORCHELASTIC_RUN_ID" in os.environ and all(_number(rank) is not None for rank in ranks)
    return _number(os.environ.get("WORLD_SIZE", "")) if is_worker else None


def is_first(processes: int) -> bool:
    """Return whether this process is the one that prints, of so many that were asked for."""
    if processes == 1:
        return True
    if launched():
        return False
    if torchrun_workers() == processes:
        return os.environ.get("RANK") == "0"
    return srun_tasks() != processes or os.environ.get("SLURM_PROCID") == "0"
