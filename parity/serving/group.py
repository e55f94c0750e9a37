"""The state of one coding group: its members, the outputs that arrived, the tasks that are outstanding."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic

from parity.serving.commands import Accept, P, Q, Source


@dataclass(slots=True, eq=False)
class Member(Generic[Q, P]):
    """A query that waits for its answer.

    Attributes:
        query: the driver's name for it.
        index: in its group.
        group: which it is a member of.
        arrived: when it did.
        impatient_at: from then on a reconstruction is as good as its own answer.
        late_at: from then on there is no answer.
        accept: the worst source of an answer.
        over: it is answered, or has failed.
    """

    query: Hashable
    index: int
    group: "Group[Q, P]"
    arrived: float
    impatient_at: float
    late_at: float
    accept: Accept
    over: bool = False
    waits_for_patience: bool = False


@dataclass(slots=True, eq=False)
class Task(Generic[Q, P]):
    """A payload that a worker was sent.

    Attributes:
        worker: index of the output in the group.
        source: what an answer with its output is called.
        attempt: how many times it has failed before.
    """

    group: "Group[Q, P]"
    worker: int
    pool: int
    payload: Q
    source: Source
    attempt: int


@dataclass(slots=True, eq=False)
class Group(Generic[Q, P]):
    """A coding group.

    Attributes:
        number: a name for it, which its tasks carry.
        slot: of the grouping.
        opened: when its first query arrived.
        queries: the members' payloads, in arrival order.
        members: the queries of it, answered or not.
        outputs: what arrived, by worker index.
        outstanding: tasks by number.
        unanswered: members that wait.
        over: it takes no further members (its timer, which closes it, means nothing any more).
        redundant: an output arrived from which others can be rebuilt.
        failed: a task of it has failed, so that members may be lost.
    """

    number: int
    slot: int
    opened: float
    queries: list[Q] = field(default_factory=list)
    members: list[Member[Q, P]] = field(default_factory=list)
    outputs: dict[int, P] = field(default_factory=dict)
    outstanding: dict[int, Task[Q, P]] = field(default_factory=dict)
    unanswered: int = 0
    over: bool = False
    redundant: bool = False
    failed: bool = False

    def waiting(self) -> Iterator[Member[Q, P]]:
        """Yield the members that are not answered."""
        return (member for member in self.members if not member.over)

    def awaits(self, worker: int) -> bool:
        """Return whether a task for this worker's output is outstanding."""
        return any(task.worker == worker for task in self.outstanding.values())

    def hoped_for(self) -> frozenset[int]:
        """Return the workers of which an output arrived or may still arrive."""
        return frozenset({task.worker for task in self.outstanding.values()} | self.outputs.keys())

    def forget(self) -> None:
        """Let go of all payloads and outputs: a timer may hold the group for a while."""
        self.queries.clear()
        self.members.clear()
        self.outputs.clear()
        self.outstanding.clear()
