"""The pool: a queue for each network, workers that are busy until they have answered, and their supervision."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from parity.errors import ParityError, cause
from parity.serving.commands import P, Q
from parity.serving.pools.engine import Engine, Handle, Outputs
from parity.serving.pools.faults import PoolFaults
from parity.serving.pools.protocol import Batching, Listener, Supervision, WorkerHealth, WorkerState
from parity.serving.pools.queues import Queued, TaskQueue
from parity.workers.work import WorkerFailed

_log = logging.getLogger(__name__)

_LOOK_EVERY = 0.1  # seconds between two looks at workers that may be silent
_SILENT_FACTOR = 10.0  # a worker that is 8 times slower than the others is slow, and not silent
_NEWEST = 0.05  # weight of the newest time that a batch took, in the average
_MOST_FAILURES = 3  # batches in a row; then the warm-up query shows whether these or the worker are to blame
_LONGEST_PAUSE = 30.0  # seconds before a worker that cannot start is tried again

Report = Callable[[], None]


@dataclass(eq=False)
class _Worker(Generic[Q]):
    """A worker's place, which it and its replacements have one after another.

    Attributes:
        life: which of them it is now; what is heard of an earlier one is dropped.
        since: when it came into its state; of a dead one, when it is to be replaced.
        loaded: it has answered the warm-up query once.
        failed_starts: how often in a row it did not get as far as its warm-up query.
        batch: what it is at; empty with the warm-up query.
        failures: how many batches in a row it has failed.
    """

    index: int
    pool: int
    handle: Handle[Q] | None = None
    life: int = 0
    state: WorkerState = WorkerState.DEAD
    since: float = 0.0
    loaded: bool = False
    failed_starts: int = 0
    restarts: int = 0
    error: str = ""
    batch: list[Queued[Q]] = field(default_factory=list)
    failures: int = 0


class Pool(Generic[Q, P]):
    """A ``WorkerPool`` over any engine.

    Args:
        engine: starts the workers.
        workers: how many there are in each pool.
        warm_up: of each pool, a payload that every worker answers before it is idle.
        outputs: what is an output; what is not is a failure.
        batching: how many tasks a worker takes at once.
        supervision: when a worker is given up.

    Raises:
        ParityError: a pool without workers.
    """

    def __init__(
        self,
        engine: Engine[Q, P],
        workers: Sequence[int],
        warm_up: Sequence[Q],
        outputs: Outputs[P],
        batching: Batching = Batching(),
        supervision: Supervision = Supervision(),
    ) -> None:
        if min(workers, default=0) < 1:
            raise ParityError(f"each pool needs a number of workers of at least 1, not {list(workers)}.")
        self._engine, self._warm_up, self._outputs = engine, warm_up, outputs
        self._supervision = supervision
        self._changed = threading.Condition()
        self._queues: list[TaskQueue[Q]] = [TaskQueue(batching) for _ in workers]
        self._idle: list[deque[_Worker[Q]]] = [deque() for _ in workers]  # the longest idle first: none is forgotten
        pools = [pool for pool, count in enumerate(workers) for _ in range(count)]
        self._workers: list[_Worker[Q]] = [_Worker(index, pool) for index, pool in enumerate(pools)]
        self._times = [0.0 for _ in workers]  # that a batch of each pool takes on average, in seconds
        self._listener: Listener[P] | None = None
        self._draining = self._over = False
        self._ending = threading.Lock()
        self._ended: bool | None = None
        self.faults = PoolFaults(self._changed, self._handle)

    def start(self, listener: Listener[P]) -> None:
        """Start the workers; does not wait until they are warm.

        Raises:
            ParityError: they run already.
        """
        with self._changed:
            if self._listener is not None:
                raise ParityError("this pool serves already: make a pool for each server.")
            self._listener = listener
            for worker in self._workers:
                self._start(worker)
        threading.Thread(target=self._supervise, name="parity-supervisor", daemon=True).start()

    def submit(self, task: int, pool: int, payload: Q, group: int) -> None:
        """Queue a task; ``group`` is the coding group that its output belongs to."""
        with self._changed:
            self._queues[pool].put(Queued(task, payload, group, _now()))
            self._dispatch(pool)
            if self._idle[pool] and self._queues[pool]:
                self._changed.notify_all()  # a batch waits for more: the supervisor is to know until when

    def abandon(self, task: int) -> None:
        """Take a task out of its queue; a worker that has it goes through with it."""
        with self._changed:
            for queue in self._queues:
                if queue.drop(task) is not None:
                    return

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker."""
        with self._changed:
            return [self._health(worker) for worker in self._workers]

    def queued(self) -> list[int]:
        """Return how many tasks wait in the queue of each pool."""
        with self._changed:
            return [len(queue) for queue in self._queues]

    def drain(self, timeout: float) -> bool:
        """Finish what is queued, then end the workers; return whether all ended within so many seconds.

        What has not ended by then is killed, and its tasks fail. A further call changes nothing and returns the same.
        """
        with self._ending:
            if self._ended is None:
                self._ended = self._end(timeout)
            return self._ended

    def _end(self, timeout: float) -> bool:
        until = _now() + timeout
        with self._changed:
            self._draining = True
            finished = self._listener is None or self._changed.wait_for(self._is_finished, timeout)
            self._over = True
            handles = [worker.handle for worker in self._workers if worker.handle is not None]
            unfinished = [queued for worker in self._workers for queued in worker.batch]
            unfinished += [queued for queue in self._queues for queued in queue.take_all()]
            for worker in self._workers:
                self._let_go(worker)
            self._changed.notify_all()
        for handle in handles:
            handle.end()
        ended = [handle.ended(max(0.0, until - _now())) for handle in handles] if finished else []
        for handle in handles:
            handle.kill()
        self._engine.close()
        _make([self._failure(queued, "the service ended") for queued in unfinished])
        return finished and all(ended)

    def _is_finished(self) -> bool:
        return not any(self._queues) and not any(worker.batch for worker in self._workers)

    def _health(self, worker: _Worker[Q]) -> WorkerHealth:
        task = worker.batch[0].task if worker.batch else None
        silent = worker.state is WorkerState.BUSY and _now() - worker.since > self._silent_after(worker.pool)
        state = WorkerState.SILENT if silent else worker.state
        return WorkerHealth(worker.index, worker.pool, task, state, worker.restarts, worker.error)

    def _silent_after(self, pool: int) -> float:
        return max(self._supervision.silent_after, _SILENT_FACTOR * self._times[pool])

    def _handle(self, worker: int) -> Handle[Q] | None:
        return self._workers[worker].handle

    def _start(self, worker: _Worker[Q]) -> list[Report]:
        """Start a worker; return what there is to report.

        It is asked the warm-up query twice: with the first it loads its network, the second shows how long one takes.
        """
        worker.state, worker.loaded = WorkerState.STARTING, False
        try:
            worker.handle = self._engine.start(worker.index, worker.pool, _Life(self, worker))
            self._ask_warm_up(worker)
        except Exception as error:  # no memory, no file descriptors, no cluster: tried again later
            return self._bury(worker, f"it cannot be started: {cause(error)}")
        return []

    def _ask_warm_up(self, worker: _Worker[Q]) -> None:
        assert worker.handle is not None
        worker.since = _now()
        worker.handle.give([self._warm_up[worker.pool]], 1.0)

    def _dispatch(self, pool: int) -> None:
        """Give idle workers what is due."""
        queue, idle = self._queues[pool], self._idle[pool]
        while queue and idle and (batch := queue.take(_now())):
            worker = min(idle, key=lambda each: each.failures > 0)  # one that fails is idle soon, and would take all
            idle.remove(worker)
            worker.batch = batch
            self._give(worker, [queued.payload for queued in batch])

    def _give(self, worker: _Worker[Q], payloads: Sequence[Q]) -> None:
        assert worker.handle is not None
        worker.state, worker.since = WorkerState.BUSY, _now()
        worker.handle.give(payloads, self.faults.slowness(worker.index))

    def _hear_answer(self, worker: _Worker[Q], life: int, outcome: Sequence[P] | WorkerFailed) -> None:
        with self._changed:
            if life != worker.life:
                return  # of a worker that is replaced already: its tasks have failed
            batch, worker.batch = worker.batch, []
            if worker.state is WorkerState.STARTING and (problem := self._problem(worker, outcome)):
                reports = self._bury(worker, f"it does not answer the warm-up query: {problem}")
            elif not worker.loaded:
                worker.loaded, reports = True, []
                self._ask_warm_up(worker)
            elif not batch and worker.state is WorkerState.BUSY and (problem := self._problem(worker, outcome)):
                reports = self._bury(worker, f"it does not answer the warm-up query any more: {problem}")
            else:
                reports, answered = self._judge(worker, batch, outcome)
                worker.failures = 0 if answered else worker.failures + 1
                self._rest(worker, _now())
                if worker.failures >= _MOST_FAILURES and not self._draining:
                    self._probe(worker)
                self._dispatch(worker.pool)
            if self._draining:
                self._changed.notify_all()
        _make(reports)

    def _problem(self, worker: _Worker[Q], outcome: Sequence[P] | WorkerFailed) -> str:
        """Return what is wrong with a worker's answer to the warm-up query; empty if nothing is."""
        if isinstance(outcome, WorkerFailed):
            return str(outcome)
        return self._outputs.problem(worker.pool, outcome[0])

    def _rest(self, worker: _Worker[Q], now: float) -> None:
        took, average = now - worker.since, self._times[worker.pool]
        self._times[worker.pool] = average + _NEWEST * (took - average) if average else took
        worker.state, worker.since, worker.failed_starts = WorkerState.IDLE, now, 0
        self._idle[worker.pool].append(worker)

    def _judge(
        self, worker: _Worker[Q], batch: Sequence[Queued[Q]], outcome: Sequence[P] | WorkerFailed
    ) -> tuple[list[Report], bool]:
        """Return the reports of a batch, after the faults that were made on purpose, and whether any is a success."""
        if isinstance(outcome, WorkerFailed):
            return [self._failure(queued, str(outcome)) for queued in batch], False
        reports: list[Report] = []
        answered = not batch
        for queued, output in zip(batch, outcome, strict=False):  # the warm-up query is in no batch
            if self.faults.loses(worker.index):
                answered = True  # as far as the pool can know
                continue
            answer = self._outputs.damaged(output) if self.faults.damages(worker.index) else output
            problem = self._outputs.problem(worker.pool, answer)
            answered = answered or not problem
            reports.append(self._failure(queued, problem) if problem else self._success(queued, answer))
        return reports, answered

    def _success(self, queued: Queued[Q], output: P) -> Report:
        assert self._listener is not None
        return partial(self._listener.done, queued.task, output)

    def _failure(self, queued: Queued[Q], why: str) -> Report:
        assert self._listener is not None
        return partial(self._listener.failed, queued.task, WorkerFailed(why))

    def _hear_death(self, worker: _Worker[Q], life: int, why: str) -> None:
        with self._changed:
            reports = self._bury(worker, why) if life == worker.life else []
        _make(reports)

    def _bury(self, worker: _Worker[Q], why: str) -> list[Report]:
        """Give a worker up; return the failures of its tasks. The supervisor starts another in its place."""
        if (handle := worker.handle) is not None:
            self._let_go(worker)
            handle.kill()  # also one that has died already: not every engine knows for certain
            handle.end()
        worker.failed_starts += worker.state is WorkerState.STARTING
        pause = min(_LONGEST_PAUSE, 2.0**worker.failed_starts) if worker.failed_starts else 0.0
        _log.warning("worker %d is replaced in %.0f s: %s", worker.index, pause, why)
        batch, worker.batch = worker.batch, []
        worker.state, worker.since, worker.error = WorkerState.DEAD, _now() + pause, why
        worker.restarts, worker.failures = worker.restarts + 1, 0
        self._changed.notify_all()
        return [self._failure(queued, why) for queued in batch]

    def _let_go(self, worker: _Worker[Q]) -> None:
        """Hear no more of a worker."""
        worker.life += 1
        worker.handle = None
        with suppress(ValueError):
            self._idle[worker.pool].remove(worker)

    def _supervise(self) -> None:
        """Replace workers that have died or are silent, and send batches that have waited long enough."""
        while True:
            with self._changed:
                self._changed.wait(self._pause())
                if self._over:
                    return
                reports = [report for worker in self._workers for report in self._look_after(worker)]
                for pool in range(len(self._queues)):
                    self._dispatch(pool)
            _make(reports)

    def _pause(self) -> float:
        """Return for how long there is nothing to supervise."""
        due = [queue.due() for queue, idle in zip(self._queues, self._idle, strict=True) if idle]
        return max(0.0, min([_LOOK_EVERY, *(time - _now() for time in due)]))

    def _look_after(self, worker: _Worker[Q]) -> list[Report]:
        supervision, age = self._supervision, _now() - worker.since
        match worker.state:
            case WorkerState.DEAD if age >= 0:
                return self._start(worker)
            case WorkerState.STARTING if age > supervision.start_timeout:
                return self._bury(worker, f"it did not start within {supervision.start_timeout:.0f} s")
            case WorkerState.BUSY if age > self._silent_after(worker.pool) + supervision.replace_after:
                return self._bury(worker, f"it has not answered for {age:.1f} s")
            case WorkerState.IDLE if age > supervision.probe_after and not self._draining:
                self._probe(worker)
        return []

    def _probe(self, worker: _Worker[Q]) -> None:
        """Ask an idle worker the warm-up query, which is known to be good: one that fails it is replaced."""
        self._idle[worker.pool].remove(worker)
        self._give(worker, [self._warm_up[worker.pool]])


def _now() -> float:
    return time.monotonic()


def _make(reports: Sequence[Report]) -> None:
    """Make the reports to the listener, which may call the pool: without the lock."""
    for report in reports:
        report()


class _Life(Generic[Q, P]):
    """Hears of one of the workers that have a place one after another."""

    def __init__(self, pool: Pool[Q, P], worker: _Worker[Q]) -> None:
        self._pool, self._worker, self._life = pool, worker, worker.life

    def answered(self, outcome: Sequence[P] | WorkerFailed) -> None:
        self._pool._hear_answer(self._worker, self._life, outcome)

    def died(self, why: str) -> None:
        self._pool._hear_death(self._worker, self._life, why)
