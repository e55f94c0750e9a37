"""Codes that rebuild exactly, over fractions, so that a wrong value shows; and a driver that checks each command."""

from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction

from parity.serving.commands import BASE, Accept, Answer, Cancel, Command, Fail, Reason, Send, Source
from parity.serving.core import Core
from parity.serving.policy import Policy

Payload = tuple[tuple[Fraction, int], ...]
"""A coded query as what it is made of: (coefficient, number of a query)."""

BLANK = 0
DEFAULT = Fraction(-1)


def predict(number: int) -> Fraction:
    """Return the base model's prediction: not linear, and not zero for the blank."""
    return Fraction(number * number + 7)


def work(payload: Payload) -> Fraction:
    """Answer as a worker with perfect models does."""
    return sum((share * predict(number) for share, number in payload), Fraction(0))


def query(number: int) -> Payload:
    """Return the payload of a query itself."""
    return ((Fraction(1), number),)


class ExactCode:
    """A linear (k, r) code with Vandermonde coefficients; any k outputs suffice, and fewer than k raise."""

    def __init__(self, k: int, r: int, systematic: bool = True) -> None:
        self.k, self.n, self.systematic, self.blank = k, k + r, systematic, query(BLANK)
        points = range(1, r + 1) if systematic else range(1, self.n + 1)
        coded = [[Fraction(point**power) for power in range(k)] for point in points]
        unit = [[Fraction(i == j) for j in range(k)] for i in range(k)]
        self.rows = unit + coded if systematic else coded

    def pool(self, worker: int) -> int:
        return 1 + worker - self.k if self.systematic and worker >= self.k else BASE

    def encode(self, queries: Sequence[Payload]) -> list[Payload]:
        assert len(queries) == self.k
        rows = self.rows[self.k :] if self.systematic else self.rows
        return [tuple((share, asked[0][1]) for share, asked in zip(row, queries, strict=True)) for row in rows]

    def rebuildable(self, arrived: AbstractSet[int]) -> AbstractSet[int]:
        return frozenset(range(self.k)) if len(arrived) >= self.k else frozenset()

    def decode(self, outputs: Mapping[int, Fraction]) -> list[Fraction]:
        used = sorted(outputs)[-self.k :]  # parity outputs first: what arrived must not be read where it is not needed
        assert len(used) == self.k
        return solve([[*self.rows[worker], outputs[worker]] for worker in used])


def solve(rows: list[list[Fraction]]) -> list[Fraction]:
    """Solve a regular system, given as rows of coefficients and a right-hand side, by elimination."""
    rows = [list(row) for row in rows]
    for column in range(len(rows)):
        pivot = next(i for i in range(column, len(rows)) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for i, row in enumerate(rows):
            if i != column:
                rows[i] = [value - row[column] * other for value, other in zip(row, rows[column], strict=True)]
    return [row[-1] for row in rows]


class Harness:
    """Drives a core and holds every command against what it must be."""

    def __init__(self, policy: Policy, code: ExactCode, default: Fraction | None = None) -> None:
        self.core: Core[Payload, Fraction] = Core(policy, code, predict(BLANK), default)
        self.policy, self.code = policy, code
        self.now = 0.0
        self.arrived = 0
        self.sent: dict[int, Send] = {}
        self.outstanding: dict[int, Send] = {}
        self.cancelled: list[int] = []
        self.ended: dict[Hashable, Answer | Fail] = {}
        self.accepts: dict[int, Accept] = {}
        self.dropped: set[int] = set()
        self.groups: dict[int, int] = {}
        self.hedges = 0

    def arrive(self, deadline: float | None = None, accept: Accept = Accept.DEFAULT) -> int:
        """Let the next query arrive; its number is its name, and its prediction differs from all others."""
        self.arrived += 1
        self.accepts[self.arrived] = accept
        self._carry_out(self.core.arrive(self.now, self.arrived, query(self.arrived), deadline, accept))
        return self.arrived

    def drop(self, number: int) -> None:
        """Let the client of a query hang up, also of one that is answered."""
        if number not in self.ended:
            self.dropped.add(number)
        self._carry_out(self.core.drop(self.now, number))

    def done(self, task: int) -> None:
        """Answer a task, also one that is cancelled."""
        self.outstanding.pop(task, None)
        self._carry_out(self.core.done(self.now, task, work(self.sent[task].payload)), done=task)

    def failed(self, task: int) -> None:
        """Fail a task, also one that is cancelled."""
        self.outstanding.pop(task, None)
        self._carry_out(self.core.failed(self.now, task))

    def wait(self, seconds: float) -> None:
        """Let time pass, with a tick whenever the core asked for one."""
        until = self.now + seconds
        while (at := self.core.next_tick()) is not None and at <= until:
            self.now = at
            self._carry_out(self.core.tick(at))
        self.now = until
        self._carry_out(self.core.tick(until))

    def tasks(self, pool: int) -> list[int]:
        """Return the outstanding tasks of a pool."""
        return [task for task, send in self.outstanding.items() if send.pool == pool]

    def task_of(self, number: int) -> int:
        """Return the outstanding task that asks a query itself."""
        return next(task for task in self.tasks(BASE) if self.sent[task].payload == query(number))

    def source(self, number: int) -> Source | Reason | None:
        """Return where a query's answer came from, or why there is none, or None while it waits."""
        end = self.ended.get(number)
        return None if end is None else end.source if isinstance(end, Answer) else end.reason

    def _carry_out(self, commands: Sequence[Command[Payload, Fraction]], done: int | None = None) -> None:
        for command in commands:
            match command:
                case Send():
                    self._check_send(command)
                    self.sent[command.task] = self.outstanding[command.task] = command
                case Cancel(task):
                    assert task in self.outstanding, "a task is cancelled that is not outstanding"
                    del self.outstanding[task]
                    self.cancelled.append(task)
                case Answer():
                    assert command.query not in self.ended, "a query is answered twice"
                    assert command.query not in self.dropped, "a query is answered whose client hung up"
                    self._check_answer(command, done)
                    self.ended[command.query] = command
                case Fail():
                    assert command.query not in self.ended, "a query fails that is answered"
                    assert command.query not in self.dropped, "a query fails whose client hung up"
                    self.ended[command.query] = command

    def _check_send(self, send: Send) -> None:
        assert send.task not in self.sent, "a task's number is used twice"
        asked = {number for _, number in send.payload} - {BLANK}
        assert asked - self.ended.keys() - self.dropped, "sent for answered queries only"
        assert {self.groups.setdefault(number, send.group) for number in asked} == {send.group}, "two groups"
        assert list(self.groups.values()).count(send.group) <= self.code.k
        if self.code.systematic and send.pool == BASE:
            assert len(send.payload) == 1
            twins = [task for task in self.tasks(BASE) if self.sent[task].payload == send.payload]
            if twins:
                self.hedges += 1
            assert len(twins) < 2

    def _check_answer(self, answer: Answer, done: int | None) -> None:
        number = answer.query
        assert isinstance(number, int)
        if answer.source is Source.DEFAULT:
            assert answer.value == DEFAULT
            assert self.accepts[number] is Accept.DEFAULT
            return
        assert answer.source is not Source.REBUILT or self.accepts[number] is not Accept.OWN
        assert answer.value == predict(number)
        asking = [task for task, send in self.sent.items() if send.pool == BASE and send.payload == query(number)]
        own = self.code.systematic and done in asking
        assert own == (answer.source in (Source.OWN, Source.HEDGE))
        if own:
            assert answer.source is Source.OWN or done != min(asking)
