"""What a worker does, and what becomes of it when that fails."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from parity.errors import cause

Q = TypeVar("Q")
P = TypeVar("P")

Work = Callable[[Sequence[Q]], Sequence[P]]
"""A batch of payloads in, an output for each out."""


class WorkerFailed(Exception):
    """A worker raised, died, or put out something that is not a prediction; the message names which."""


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
