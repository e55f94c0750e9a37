"""Pools for coded models, by the name of their engine."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError, did_you_mean
from parity.serving.model_code import pool_sizes
from parity.serving.pools.engine import Engine
from parity.serving.pools.pool import Pool
from parity.serving.pools.processes import ProcessEngine
from parity.serving.pools.protocol import Batching, Supervision
from parity.serving.pools.ray_actors import RayEngine
from parity.serving.pools.threads import ThreadEngine

ENGINES = ("threads", "processes", "ray")

StackWork = Callable[[Tensor], Tensor]
"""A stack of payloads (B, *Q) -> their outputs (B, *P): what a network does."""


class Stacked:
    """A worker's work: one forward pass on the stack of a batch, without gradients.

    Args:
        work: a network, or what stands for one: (B, *Q) -> (B, *P).
    """

    def __init__(self, work: StackWork) -> None:
        self._work = work

    @torch.inference_mode()
    def __call__(self, payloads: Sequence[Tensor]) -> list[Tensor]:
        """Return an output (*P) for each payload (*Q)."""
        outputs = self._work(torch.stack(list(payloads)))
        # On their own: a view would send, and keep, the whole stack.
        return [output.clone() for output in outputs] if len(payloads) > 1 else [*outputs]


class TensorOutputs:
    """Outputs are finite and of the shape that their pool's network puts out.

    Args:
        shapes: of an output of each pool.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        self._shapes = [torch.Size(shape) for shape in shapes]

    def problem(self, pool: int, output: Tensor) -> str:
        """Return why this is not an output of a worker of the pool; empty if it is one."""
        if not isinstance(output, Tensor):
            return f"an output is a tensor, not {type(output).__name__}"
        if output.shape != self._shapes[pool]:
            return f"an output of shape {tuple(output.shape)}, not {tuple(self._shapes[pool])}"
        return "" if torch.isfinite(output).all() else "an output with NaN or infinity in it"

    def damaged(self, output: Tensor) -> Tensor:
        """Return what a damaged answer looks like."""
        return torch.full_like(output, torch.nan)


def make_pool(
    engine: str,
    coded_model: CodedModel,
    workers: int | Sequence[int],
    *,
    batching: Batching = Batching(),
    work: Sequence[StackWork] | None = None,
    address: str | None = None,
    threads: int = 1,
    supervision: Supervision = Supervision(),
) -> Pool[Tensor, Tensor]:
    """Return the pools of a coded model: ``workers`` of the base model, 1 / k of them of each parity model.

    Args:
        engine: one of ``ENGINES``.
        coded_model: whose networks the workers run, on the CPU; it is put into eval mode.
        workers: of the base model, or of each pool.
        batching: how many tasks a worker takes at once.
        work: in place of the networks, a function (B, *Q) -> (B, *P) for each pool, e.g. one that sleeps.
        address: of the Ray cluster to join, or 'auto'; by default Ray is started on this machine.
        threads: that torch computes with in a worker; with ``threads`` as engine, in this process.
        supervision: when a worker is given up.

    Raises:
        ParityError: an unknown engine, fewer than 1 worker or thread, an address without Ray, or networks that cannot
            be sent to other processes; Ray is not installed, or does not have enough CPUs.
    """
    if engine not in ENGINES:
        raise ParityError(f"unknown engine '{engine}': {did_you_mean(engine, ENGINES)}")
    if address is not None and engine != "ray":
        raise ParityError(f"an address is that of a Ray cluster: use the engine 'ray' with it, not '{engine}'.")
    if threads < 1:
        raise ParityError(f"threads must be at least 1, not {threads}.")
    sizes = list(workers) if isinstance(workers, Sequence) else pool_sizes(coded_model, workers)
    coded_model.eval()
    works = [Stacked(each) for each in work or [coded_model.base_model, *coded_model.parity_models]]
    if len(works) != len(sizes):
        raise ParityError(f"work has a function for each of the {len(sizes)} pools, not {len(works)}.")
    prediction_shape = coded_model.decoder.prediction_shape
    parity_shape = coded_model.decoder.parity_shape(prediction_shape)
    return Pool(
        _engine(engine, works, sizes, address, threads),
        sizes,
        warm_up=_warm_up(coded_model),
        outputs=TensorOutputs([prediction_shape, *[parity_shape] * (len(sizes) - 1)]),
        batching=batching,
        supervision=supervision,
    )


@torch.no_grad()
def _warm_up(coded_model: CodedModel) -> list[Tensor]:
    """Return what each pool's workers are asked first: a blank, or a parity query of blanks."""
    blank = coded_model.blank_query()
    parity_queries = coded_model.encoder.dispatch(blank.expand(1, coded_model.k, *blank.shape))[1]
    return [blank, *parity_queries[0].clone()]


def _engine(
    name: str, works: Sequence[Stacked], sizes: Sequence[int], address: str | None, threads: int
) -> Engine[Tensor, Tensor]:
    if name == "threads":
        return ThreadEngine(works, threads)
    if name == "processes":
        return ProcessEngine(works, threads)
    return RayEngine(works, sum(sizes), threads, address)
