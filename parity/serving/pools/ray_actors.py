"""Workers as Ray actors, on this machine or on a cluster; Ray is imported when it is used, and not before.

Plain actors, with the queue in the frontend: Ray Serve's router is not a single queue, and probes replicas that are
busy. An actor has one batch at a time, so that nothing is queued, retried or cancelled by Ray: it is busy until it has
answered. Two calls of it are outstanding: the batch, and one that never returns and so fails at once when the actor
dies, idle or not. An actor that is stopped is noticed by its silence, as in every engine, and is killed by a signal:
Ray asks an actor to end itself, which one that is stopped does not do.
"""

import logging
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, Generic

from parity.errors import ParityError, cause
from parity.serving.commands import P, Q
from parity.serving.pools.engine import Reports
from parity.serving.pools.ray_connection import connection, import_ray
from parity.workers.actor import Actor, send_signal
from parity.workers.shipping import ship
from parity.workers.wire import pack, unpack
from parity.workers.work import Work

_log = logging.getLogger(__name__)

_WATCH = "watch"  # the concurrency group of the call that never returns


class RayEngine(Generic[Q, P]):
    """Starts actors.

    Args:
        work: what the workers of each pool do.
        workers: how many there will be; each takes as many CPUs of the cluster as torch threads.
        threads: that torch computes with, in each actor.
        address: of the cluster to join; by default the Ray that this process is connected to, or else one that is
            started on this machine and ends with the engine.

    Raises:
        ParityError: Ray is not installed, the cluster cannot be reached or is too small, or the work cannot be sent.
    """

    def __init__(self, work: Sequence[Work[Q, P]], workers: int, threads: int = 1, address: str | None = None) -> None:
        self._ray = import_ray()
        self._threads = threads
        shipped = [ship(each) for each in work]
        connection.open(self._ray, address, workers * threads)
        try:
            self._check_size(workers * threads)
            self._shipped = [self._ray.put(data) for data in shipped]
            self._actor = self._ray.remote(
                num_cpus=threads,
                max_restarts=0,
                max_task_retries=0,
                concurrency_groups={_WATCH: 1},
                scheduling_strategy="SPREAD",
                enable_task_events=False,
            )(Actor)
            self._signal_there = self._ray.remote(send_signal)
        except BaseException:
            connection.close(self._ray)
            raise
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="parity-ray", daemon=True).start()

    def start(self, worker: int, pool: int, reports: Reports[P]) -> "_Actor[Q, P]":
        """Start an actor."""
        actor = self._actor.remote(self._shipped[pool], self._threads)
        return _Actor(self._ray, actor, reports, self._calls.put, self._signal)

    def close(self) -> None:
        """Disconnect, and end Ray if it was started here."""
        self._calls.put(None)
        connection.close(self._ray)

    def _run(self) -> None:
        """Make the calls one after another: Ray's own threads are not to wait for us, nor is the event loop for Ray."""
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:
                _log.exception("a call of a Ray actor failed")

    def _signal(self, node: str, process: int, signum: int) -> "Future[None]":
        """Send a signal to an actor's process, wherever it is; the future is done once it has arrived, or failed to."""
        if node == self._ray.get_runtime_context().get_node_id():
            with suppress(ProcessLookupError):
                send_signal(process, signum)
            return _done()
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        there = self._signal_there.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
        sent: Future[None] = there.remote(process, signum).future()
        return sent

    def _check_size(self, cpus: int) -> None:
        there = self._ray.cluster_resources().get("CPU", 0)
        if there < cpus:
            raise ParityError(
                f"the Ray cluster has {there:g} CPUs, and the workers need {cpus}, one for each of their threads: "
                f"use fewer workers, or a larger cluster."
            )


def _done() -> "Future[None]":
    done: Future[None] = Future()
    done.set_result(None)
    return done


class _Actor(Generic[Q, P]):
    """An actor, for the pool.

    Args:
        ray: the module.
        actor: Ray's handle.
        reports: hears of it.
        call: makes calls, in order, in a thread of their own.
        send_signal: to a process of a node.
    """

    def __init__(
        self,
        ray: ModuleType,
        actor: Any,
        reports: Reports[P],
        call: Callable[[Callable[[], None]], None],
        send_signal: Callable[[str, int, int], Future[None]],
    ) -> None:
        self._ray, self._actor, self._reports = ray, actor, reports
        self._call, self._send_signal = call, send_signal
        self._where: Future[tuple[str, int]] = actor.where.options(concurrency_group=_WATCH).remote().future()
        self._signals: Future[Any] = self._where  # is done once all signals that were sent have arrived
        self._dead = threading.Event()
        self._hear_from(actor.watch.options(concurrency_group=_WATCH).remote())

    def give(self, payloads: Sequence[Q], slowness: float) -> None:
        self._after_signals(partial(self._ask, payloads, slowness))

    def stall(self) -> None:
        self._send_in_turn(signal.SIGSTOP)

    def release(self) -> None:
        self._send_in_turn(signal.SIGCONT)

    def kill(self) -> None:
        self._where.add_done_callback(lambda _: self._call(self._kill_now))  # whatever else is on its way

    def end(self) -> None:
        self._call(partial(self._ray.kill, self._actor))  # also one that is not there yet

    def ended(self, timeout: float) -> bool:
        return self._dead.wait(timeout)

    def _after_signals(self, call: Callable[[], None]) -> None:
        """Make a call once the signals before it have arrived: one to another machine takes longer than a batch."""
        self._signals.add_done_callback(lambda _: self._call(call))

    def _send_in_turn(self, signum: int) -> None:
        """Send a signal after those before it, and ahead of what the actor is given later."""
        arrived: Future[None] = Future()
        self._after_signals(lambda: self._send_now(signum).add_done_callback(lambda _: arrived.set_result(None)))
        self._signals = arrived

    def _kill_now(self) -> None:
        self._send_now(signal.SIGKILL)

    def _send_now(self, signum: int) -> "Future[None]":
        if self._dead.is_set() or self._where.exception() is not None:
            return _done()
        return self._send_signal(*self._where.result(), signum)

    def _ask(self, payloads: Sequence[Q], slowness: float) -> None:
        self._hear_from(self._actor.answer.remote(pack((payloads, slowness))))

    def _hear_from(self, answer: Any) -> None:
        answer.future().add_done_callback(lambda future: self._call(partial(self._hear, future)))

    def _hear(self, answer: "Future[bytes]") -> None:
        try:
            outcome = unpack(answer.result())
        except Exception as error:  # what the work raises is an outcome: this is Ray's, and the actor is of no use
            self._dead.set()
            self._reports.died(cause(error))
        else:
            self._reports.answered(outcome)
