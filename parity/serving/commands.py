"""What the core asks its driver to do, and the words for where answers come from."""

from collections.abc import Hashable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

Q = TypeVar("Q")
"""A query, or a coded query; the core never looks into one."""

P = TypeVar("P")
"""A prediction, or another worker's output."""

BASE = 0
"""The pool whose workers run the base model; pool 1 + j runs parity model j."""


class Source(StrEnum):
    """Where an answer comes from."""

    OWN = "own"
    HEDGE = "hedge"
    REBUILT = "rebuilt"
    DEFAULT = "default"


class Accept(StrEnum):
    """The worst source that a query's client accepts."""

    OWN = "own"  # its own answer or a hedge's
    REBUILT = "rebuilt"
    DEFAULT = "default"


class Reason(StrEnum):
    """Why a query gets no answer."""

    REFUSED = "refused"  # too many queries were waiting when it arrived
    LATE = "late"  # its deadline passed
    LOST = "lost"  # every worker that could have answered it failed


class Send(NamedTuple, Generic[Q]):
    """Have a worker of a pool answer a payload; report the output, or the failure, under the task's number.

    No two tasks of one group, a query and its hedge included, belong into one batch of a worker: they would be lost
    together.
    """

    task: int
    pool: int
    payload: Q
    group: int


class Cancel(NamedTuple):
    """Nobody waits for this task: drop it if it is still queued, and its output if it is not."""

    task: int


class Answer(NamedTuple, Generic[P]):
    """Answer a query."""

    query: Hashable
    value: P
    source: Source


class Fail(NamedTuple):
    """Report to a query's client that it gets no answer."""

    query: Hashable
    reason: Reason


Command = Send[Q] | Cancel | Answer[P] | Fail
