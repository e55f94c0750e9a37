"""What a pool needs of an engine: workers that are started, given batches, stopped and killed."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from parity.errors import cause
from parity.serving.commands import P, Q
from parity.serving.pools.protocol import WorkerFailed

Q_in = TypeVar("Q_in", contravariant=True)
P_in = TypeVar("P_in", contravariant=True)
P_out = TypeVar("P_out", covariant=True)

Work = Callable[[Sequence[Q]], Sequence[P]]
"""What a worker does: a batch of payloads in, an output for each out."""


class Reports(Protocol[P_in]):
    """Who hears of one worker; called from any thread, but not from within a call to the worker's handle."""

    def answered(self, outcome: Sequence[P_in] | WorkerFailed) -> None:
        """The batch that the worker was given is done."""
        ...

    def died(self, why: str) -> None:
        """The worker has died; nothing else is heard of it."""
        ...


class Handle(Protocol[Q_in]):
    """A worker, for the pool; no call blocks but ``ended``."""

    def give(self, payloads: Sequence[Q_in], slowness: float) -> None:
        """Have it answer a batch, in so many times the time that it needs; it has no other at the moment."""
        ...

    def stall(self) -> None:
        """Stop it."""
        ...

    def release(self) -> None:
        """Let it continue."""
        ...

    def kill(self) -> None:
        """Kill it, whatever it is at; its death is reported."""
        ...

    def end(self) -> None:
        """End it; it is idle."""
        ...

    def ended(self, timeout: float) -> bool:
        """Return whether it ends within so many seconds."""
        ...


class Engine(Protocol[Q_in, P_out]):
    """Starts workers."""

    def start(self, worker: int, pool: int, reports: Reports[P_out]) -> Handle[Q_in]:
        """Start a worker of a pool, in the place of the one that had this index before; does not wait for it."""
        ...

    def close(self) -> None:
        """Let go of whatever the workers had in common."""
        ...


def attempt(work: Work[Q, P], payloads: Sequence[Q], slowness: float) -> list[P] | WorkerFailed:
    """Do a worker's work: the outputs, or what went wrong, for all payloads alike.

    ``SystemExit`` of a network must not end the worker in silence.
    """
    started = time.perf_counter()
    try:
        outputs = list(work(payloads))
    except (Exception, SystemExit) as error:
        return WorkerFailed(cause(error))
    if len(outputs) != len(payloads):
        return WorkerFailed(f"{len(outputs)} outputs for {len(payloads)} queries")
    if slowness > 1:
        time.sleep((slowness - 1) * (time.perf_counter() - started))
    return outputs


class Outputs(Protocol[P]):
    """What outputs of workers must be like."""

    def problem(self, pool: int, output: P) -> str:
        """Return why this is not an output of a worker of the pool; empty if it is one."""
        ...

    def damaged(self, output: P) -> P:
        """Return what a damaged answer looks like."""
        ...
