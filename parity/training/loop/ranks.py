"""The processes that train together under DDP: started, connected, and in agreement.

Everything here works in a single process too, where it does nothing.
"""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from parity import processes
from parity.errors import ParityError

T = TypeVar("T")

_PATIENCE = timedelta(days=14)
"""How long ranks wait for one that is busy, e.g. waiting for a base model that another job trains."""

_CPU_GROUP: list[dist.ProcessGroup] = []
"""Of all ranks, for plain values: asking it never waits for a GPU."""


def join(trainer: pl.Trainer) -> None:
    """Start the other processes if nobody else has (SLURM does), and connect all of them.

    With a single device, or if that was done before, nothing happens. Processes started here run this very command
    line; they call this function too and wait for each other.

    Args:
        trainer: knows how many processes there are, and where.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy) or dist.is_initialized():
        return
    if strategy.launcher is not None:
        with processes.launching():
            strategy.launcher.launch(_nothing, trainer=trainer)
        _CHILDREN.extend(getattr(strategy.launcher, "procs", []))
    strategy.setup_environment()
    _CPU_GROUP.append(dist.new_group(backend="gloo", timeout=_PATIENCE))


def _nothing() -> None:
    pass


_CHILDREN: list[Any] = []


def tell_children(signum: int) -> None:
    """Forward a signal to the processes that this one has started for training."""
    for child in _CHILDREN:
        child.send_signal(signum)


def rank() -> int:
    """Return this process's rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def draw_apart() -> None:
    """Let each rank draw random numbers of its own from here on, for augmentation and dropout; rank 0 keeps its own.

    Models are made before, alike on all ranks.
    """
    if rank():
        seed = (torch.initial_seed() + rank()) % 2**32
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def gather(value: T) -> list[T]:
    """Return every rank's value, in order; plain values and CPU tensors."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=_CPU_GROUP[0])
    return values


def share_buffers(module: nn.Module) -> None:
    """Give all ranks rank 0's buffers: the running means of batch normalisation differ from rank to rank."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def highest(value: int) -> int:
    """Return the highest of all ranks' values."""
    if world_size() == 1:
        return value
    values = torch.tensor([value])
    dist.all_reduce(values, dist.ReduceOp.MAX, group=_CPU_GROUP[0])
    return int(values)


def on_first(function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone; all return what it returned, or raise the ``ParityError`` it raised."""
    if world_size() == 1:
        return function()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = function()
        except ParityError as error:
            outcome[1] = error
            error.everywhere = True
    dist.broadcast_object_list(outcome, src=0, group=_CPU_GROUP[0])
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
