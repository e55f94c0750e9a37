"""The core of the service: events in, commands out, without input, output, threads or a clock.

A driver passes on what happens (a query arrived, a task is done or failed, time has passed) and carries out the
commands that each call returns. The same core so runs under asyncio and threads, in the simulator and in tests.
"""

import itertools
import logging
from collections.abc import Hashable
from typing import Generic, cast

from parity.errors import ParityError
from parity.serving.code import Code
from parity.serving.commands import BASE, Accept, Answer, Cancel, Command, Fail, P, Q, Reason, Send, Source
from parity.serving.group import Group, Member, Task
from parity.serving.policy import HedgeBudget, Policy
from parity.serving.statistics import Statistics
from parity.serving.timers import Timers
from parity.serving.typical import RunningMedian

_log = logging.getLogger(__name__)


class Core(Generic[Q, P]):
    """Answers every query exactly once, with whichever comes first: its own answer or a reconstruction.

    The policy's grouping deals queries out to groups. A systematic code's queries go to the base pool as they arrive,
    everything else of a group when it is full or its timeout is over. Times must not decrease from call to call.

    All payloads of a core are answered by one version of the models: a service with a new version makes a new core.

    Args:
        policy: times, budgets and bounds.
        code: encoding and decoding.
        blank: the base model's prediction for the code's blank: decoding a partial group subtracts it. It is known from
            the start, for a group that had to ask for it could not lose r outputs. Codes of k = 1 have no use for it.
        default: the prediction for queries that get no other and accept it; with None these fail.
        statistics: where to count; by default its own.

    Raises:
        ParityError: the policy hedges, and the code has no own answers.
    """

    def __init__(
        self,
        policy: Policy,
        code: Code[Q, P],
        blank: P | None = None,
        default: P | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        if policy.hedges and not code.systematic:
            raise ParityError(
                "a non-systematic code cannot be hedged, as no worker is asked a query itself: leave hedge_delay out."
            )
        self._policy = policy
        self._code = code
        self._blank = cast(P, blank)  # None is a prediction too, in the simulator
        self._default = default
        self.statistics = statistics or Statistics()
        self._budget = HedgeBudget(policy.hedge_budget)
        self._timers = Timers()
        self._typical = RunningMedian()
        self._numbers = itertools.count()
        self._waiting: dict[Hashable, Member[Q, P]] = {}
        self._tasks: dict[int, Task[Q, P]] = {}
        self._accepted, self._groups = itertools.count(), itertools.count()
        self._open: dict[int, Group[Q, P]] = {}  # by slot of the grouping
        self._commands: list[Command[Q, P]] = []

    @property
    def waiting(self) -> int:
        """Queries that wait for an answer."""
        return len(self._waiting)

    @property
    def outstanding(self) -> int:
        """Tasks of which an output is waited for."""
        return len(self._tasks)

    def next_tick(self) -> float | None:
        """Return the time at which ``tick`` is to be called, if nothing else happens before."""
        return self._timers.next_time()

    def arrive(
        self,
        now: float,
        query: Hashable,
        payload: Q,
        deadline: float | None = None,
        accept: Accept = Accept.DEFAULT,
    ) -> list[Command[Q, P]]:
        """A query arrived.

        Args:
            now: the time.
            query: the driver's name for it.
            payload: what is encoded and sent.
            deadline: seconds from now; by default the policy's.
            accept: the worst source of its answer. One that accepts only its own waits for that until its deadline.

        Raises:
            ParityError: a query of this name is waiting, or it accepts only its own answer and the code has none.
        """
        if query in self._waiting:
            raise ParityError(f"query {query!r} is waiting already: give every query a name of its own.")
        if accept is Accept.OWN and not self._code.systematic:
            raise ParityError("with this code every prediction is rebuilt, so that none can be accepted as 'own' only.")
        if len(self._waiting) >= self._policy.most_waiting:
            self._report(query, Reason.REFUSED)
        else:
            self._accept(now, query, payload, self._policy.deadline if deadline is None else deadline, accept)
        return self.tick(now)

    def drop(self, now: float, query: Hashable) -> list[Command[Q, P]]:
        """Nobody waits for a query's answer any more; one that is answered is ignored.

        Its own output is still waited for where it may rebuild another of its group.
        """
        if (member := self._waiting.get(query)) is not None:
            self.statistics.dropped += 1
            self._leave(member)
            self._settle(now, member.group)
        return self.tick(now)

    def done(self, now: float, task: int, output: P) -> list[Command[Q, P]]:
        """A worker answered; what was cancelled is ignored."""
        if (known := self._take(task)) is not None:
            self._receive(now, known, output)
            self._settle(now, known.group)
        else:
            self.statistics.late += 1
        return self.tick(now)

    def failed(self, now: float, task: int) -> list[Command[Q, P]]:
        """A worker failed, or died with the task; what was cancelled is ignored."""
        if (known := self._take(task)) is not None:
            self.statistics.failed += 1
            known.group.failed = True
            if known.attempt < self._policy.retries and self._is_needed(known):
                self._send(known.group, known.worker, known.pool, known.payload, known.source, known.attempt + 1)
            self._settle(now, known.group)
        return self.tick(now)

    def tick(self, now: float) -> list[Command[Q, P]]:
        """Time has passed."""
        self._timers.run(now)
        commands, self._commands = self._commands, []
        return commands

    def _accept(self, now: float, query: Hashable, payload: Q, deadline: float, accept: Accept) -> None:
        policy, slot = self._policy, self._policy.grouping.slot(next(self._accepted))
        group = self._open.get(slot) or self._open_group(now, slot)
        late_at = now + deadline
        patience = policy.patience + policy.relative_patience * self._typical.value
        member = Member(query, len(group.members), group, now, min(now + patience, late_at), late_at, accept)
        self._waiting[query] = member
        group.members.append(member)
        group.queries.append(payload)
        group.unanswered += 1
        self._budget.earn()
        if self._code.systematic:
            self._send(group, member.index, BASE, payload)
        if policy.hedges:
            self._timers.add(now + policy.hedge_delay, self._hedge, member)
        self._timers.add(late_at, self._give_up_waiting, member)
        if len(group.members) == self._code.k:
            self._close(now, group)

    def _open_group(self, now: float, slot: int) -> Group[Q, P]:
        group: Group[Q, P] = Group(next(self._groups), slot, now)
        self._open[slot] = group
        if self._code.k > 1:
            self._timers.add(now + self._policy.group_timeout, self._close, group)
        return group

    def _close(self, now: float, group: Group[Q, P]) -> None:
        """Send what is made of the whole group, unless nobody waits for it."""
        del self._open[group.slot]
        group.over = True
        code, blanks = self._code, self._code.k - len(group.members)
        if group.unanswered:
            if code.k > 1:
                self.statistics.fill.observe(now - group.opened)
                self.statistics.partial += blanks > 0
            if code.systematic:
                group.outputs.update(dict.fromkeys(range(len(group.members), code.k), self._blank))
            self._send_coded(group, blanks)
        self._settle(now, group)

    def _send_coded(self, group: Group[Q, P], blanks: int) -> None:
        """Send what the code makes of a group's queries; if it cannot make it, that has failed as a task would."""
        code = self._code
        try:
            coded = code.encode(group.queries + [code.blank] * blanks)
        except Exception:  # whatever a user's encoder raises: the other answers, and other groups, are unharmed
            _log.exception("a group cannot be encoded")
            self.statistics.failed += code.n - code.k if code.systematic else code.n
            group.failed = True
            return
        for worker, payload in enumerate(coded, start=code.n - len(coded)):
            self._send(group, worker, code.pool(worker), payload)

    def _send(
        self, group: Group[Q, P], worker: int, pool: int, payload: Q, source: Source = Source.OWN, attempt: int = 0
    ) -> None:
        number = next(self._numbers)
        self._tasks[number] = group.outstanding[number] = Task(group, worker, pool, payload, source, attempt)
        self._commands.append(Send(number, pool, payload, group.number))
        self.statistics.sent[pool] += 1
        self.statistics.hedges += source is Source.HEDGE and attempt == 0

    def _take(self, number: int) -> Task[Q, P] | None:
        task = self._tasks.pop(number, None)
        if task is not None:
            del task.group.outstanding[number]
        return task

    def _cancel(self, now: float, number: int) -> None:
        if (task := self._take(number)) is not None and _is_own(task):
            self._typical.outlasts(self._age(now, task))
        self._commands.append(Cancel(number))
        self.statistics.abandoned += 1

    def _receive(self, now: float, task: Task[Q, P], output: P) -> None:
        """Keep an output, and answer the query whose own it is."""
        group, worker, code = task.group, task.worker, self._code
        group.outputs[worker] = output
        if _is_own(task):
            self._typical.observe(self._age(now, task))
        for twin in [number for number, other in group.outstanding.items() if other.worker == worker]:
            self._cancel(now, twin)
        if not code.systematic or worker >= code.k:
            group.redundant = True
        elif not (member := group.members[worker]).over:
            self._answer(member, output, task.source)

    def _age(self, now: float, task: Task[Q, P]) -> float:
        """Return for how long the output of a task of the base pool has been waited for."""
        group = task.group
        return now - (group.members[task.worker].arrived if self._code.systematic else group.opened)

    def _is_needed(self, task: Task[Q, P]) -> bool:
        """Return whether a failed task is worth sending again."""
        group, worker = task.group, task.worker
        if group.awaits(worker):
            return False
        asks_a_query = self._code.systematic and worker < self._code.k
        return not group.members[worker].over if asks_a_query else group.unanswered > 0

    def _settle(self, now: float, group: Group[Q, P]) -> None:
        """Rebuild what is to be rebuilt now, fail what never can be, and end the group when nobody waits for it."""
        if group.redundant and group.unanswered:
            self._rebuild(now, group)
        if group.failed and group.over and group.unanswered:
            self._fail_lost(group)
        if group.over and not group.unanswered:
            for number in list(group.outstanding):
                self._cancel(now, number)
            group.forget()

    def _rebuild(self, now: float, group: Group[Q, P]) -> None:
        ready = self._code.rebuildable(group.outputs.keys())
        due = [
            member
            for member in group.waiting()
            if member.index in ready and member.accept is not Accept.OWN and self._takes_rebuilt(now, member)
        ]
        if due:
            rebuilt = self._code.decode(group.outputs)
            for member in due:
                self._answer(member, rebuilt[member.index], Source.REBUILT)

    def _takes_rebuilt(self, now: float, member: Member[Q, P]) -> bool:
        """Return whether a query that can be rebuilt is to be; if not yet, come back when its patience is over."""
        group = member.group
        if now >= member.impatient_at:
            return True
        if not (group.awaits(member.index) if self._code.systematic else group.outstanding):
            return True
        if not member.waits_for_patience:
            member.waits_for_patience = True
            self._timers.add(member.impatient_at, self._lose_patience, member)
        return False

    def _lose_patience(self, now: float, member: Member[Q, P]) -> None:
        self._settle(now, member.group)

    def _fail_lost(self, group: Group[Q, P]) -> None:
        """Fail the members that no output which may still come can answer."""
        code = self._code
        hoped = group.hoped_for()
        own = hoped if code.systematic else frozenset[int]()
        possible = code.rebuildable(hoped) | own
        for member in list(group.waiting()):
            if member.index not in (own if member.accept is Accept.OWN else possible):
                self._fail(member, Reason.LOST)

    def _hedge(self, now: float, member: Member[Q, P]) -> None:
        if self._budget.spend():
            group = member.group
            self._send(group, member.index, BASE, group.queries[member.index], Source.HEDGE)

    def _give_up_waiting(self, now: float, member: Member[Q, P]) -> None:
        self._settle(now, member.group)  # a reconstruction that patience held back is better than none
        if not member.over:
            self._fail(member, Reason.LATE)
            self._settle(now, member.group)

    def _answer(self, member: Member[Q, P], value: P, source: Source) -> None:
        self._leave(member)
        self._commands.append(Answer(member.query, value, source))

    def _fail(self, member: Member[Q, P], reason: Reason) -> None:
        if self._default is not None and member.accept is Accept.DEFAULT:
            self._answer(member, self._default, Source.DEFAULT)
        else:
            self._leave(member)
            self._report(member.query, reason)

    def _report(self, query: Hashable, reason: Reason) -> None:
        self._commands.append(Fail(query, reason))
        self.statistics.failures[reason] += 1

    def _leave(self, member: Member[Q, P]) -> None:
        member.over = True
        member.group.unanswered -= 1
        del self._waiting[member.query]


def _is_own(task: Task[Q, P]) -> bool:
    """Return whether how long a task takes is what patience is a multiple of."""
    return task.pool == BASE and task.source is Source.OWN
