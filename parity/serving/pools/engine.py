"""What a pool needs of an engine: workers that are started, given batches, stopped and killed."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from parity.serving.commands import P
from parity.workers.work import WorkerFailed

Q_in = TypeVar("Q_in", contravariant=True)
P_in = TypeVar("P_in", contravariant=True)
P_out = TypeVar("P_out", covariant=True)


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
        """Kill it, as from outside, whatever it is at; its death is reported."""
        ...

    def end(self) -> None:
        """End it; it is idle, or has been killed."""
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


class Outputs(Protocol[P]):
    """What outputs of workers must be like."""

    def problem(self, pool: int, output: P) -> str:
        """Return why this is not an output of a worker of the pool; empty if it is one."""
        ...

    def damaged(self, output: P) -> P:
        """Return what a damaged answer looks like."""
        ...
