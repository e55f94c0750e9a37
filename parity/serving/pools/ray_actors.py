"""Workers as Ray actors, on this machine or on a cluster; Ray is imported when it is used, and not before.

Plain actors, with the queue in the frontend: Ray Serve's router is not a single queue, and probes replicas that are
busy. An actor has one batch at a time, so that nothing is queued, retried or cancelled by Ray: it is busy until it has
answered. Two calls of it are outstanding: the batch, and one that never returns and so fails at once when the actor
dies, idle or not. An actor that is stopped is noticed by its silence, as in every engine, and is killed by a signal:
Ray asks an actor to end itself, which one that is stopped does not do.
"""

import logging
import os
import queue
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import Any, Generic

from parity.errors import ParityError, cause
from parity.serving.commands import P, Q
from parity.serving.pools.engine import Reports
from parity.workers.actor import Actor, send_signal
from parity.workers.shipping import ship
from parity.workers.wire import pack, unpack
from parity.workers.work import Work

_log = logging.getLogger(__name__)

_WATCH = "watch"  # the concurrency group of the call that never returns

_STARTS = 3  # Ray gives its processes 30 s to start, which a machine that is busy may not do at once

LOCAL_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers would run at nice 15, behind whatever else this machine does
    "RAY_memory_monitor_refresh_ms": "0",  # it kills workers, and Ray's own, when others fill the machine
}
"""The environment in which Ray is started on this machine."""


def import_ray() -> ModuleType:
    """Return the module.

    Raises:
        ParityError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ParityError("the engine 'ray' needs Ray: pip install 'parity[serve]'.") from error
    return ray


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
        _connection.open(self._ray, address, workers * threads)
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
            _connection.close(self._ray)
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
        _connection.close(self._ray)

    def _run(self) -> None:
        """Make the calls one after another: Ray's own threads are not to wait for us, nor is the event loop for Ray."""
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:
                _log.exception("a call of a Ray actor failed")

    def _signal(self, node: str, process: int, signum: int) -> None:
        """Send a signal to an actor's process, wherever it is."""
        if node == self._ray.get_runtime_context().get_node_id():
            with suppress(ProcessLookupError):
                send_signal(process, signum)
            return
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        self._signal_there.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(process, signum)

    def _check_size(self, cpus: int) -> None:
        there = self._ray.cluster_resources().get("CPU", 0)
        if there < cpus:
            raise ParityError(
                f"the Ray cluster has {there:g} CPUs, and the workers need {cpus}, one for each of their threads: "
                f"use fewer workers, or a larger cluster."
            )


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
        send_signal: Callable[[str, int, int], None],
    ) -> None:
        self._ray, self._actor, self._reports = ray, actor, reports
        self._call, self._send_signal = call, send_signal
        self._where: Future[tuple[str, int]] = actor.where.options(concurrency_group=_WATCH).remote().future()
        self._dead = threading.Event()
        self._hear_from(actor.watch.options(concurrency_group=_WATCH).remote())

    def give(self, payloads: Sequence[Q], slowness: float) -> None:
        self._call(partial(self._ask, payloads, slowness))

    def stall(self) -> None:
        self._send(signal.SIGSTOP)

    def release(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        self._call(partial(self._ray.kill, self._actor))  # also one that is not there yet, or cannot be reached

    def end(self) -> None:
        self.kill()

    def ended(self, timeout: float) -> bool:
        return self._dead.wait(timeout)

    def _send(self, signum: int) -> None:
        """Send a signal as soon as it is known where to."""
        self._where.add_done_callback(lambda where: self._call(partial(self._send_now, where, signum)))

    def _send_now(self, where: "Future[tuple[str, int]]", signum: int) -> None:
        if not self._dead.is_set() and where.exception() is None:
            self._send_signal(*where.result(), signum)

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


class _Connection:
    """This process's connection to Ray, of which there is one, for all engines that use it.

    It is ended with the last of them, unless it was there before; a cluster that was joined lives on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._opened_here = False

    def open(self, ray: ModuleType, address: str | None, cpus: int) -> None:
        """Connect, if this process is not connected.

        Raises:
            ParityError: it is connected to another cluster, or this one cannot be reached.
        """
        with self._lock:
            if ray.is_initialized():
                self._check_address(ray, address)
            else:
                with _as_it_was(ray):
                    _initialise(ray, address, cpus)
                self._opened_here = True
            self._users += 1

    def close(self, ray: ModuleType) -> None:
        """Disconnect with the last user."""
        with self._lock:
            self._users -= 1
            if not self._users and self._opened_here:
                self._opened_here = False
                ray.shutdown()

    @staticmethod
    def _check_address(ray: ModuleType, address: str | None) -> None:
        connected = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", connected):
            raise ParityError(
                f"this process is connected to the Ray cluster {connected}: leave the address {address} out, "
                f"or call ray.shutdown() before."
            )


_connection = _Connection()


def _initialise(ray: ModuleType, address: str | None, cpus: int) -> None:
    options: dict[str, Any] = dict(namespace=f"parity-{uuid.uuid4().hex}", log_to_driver=False, logging_level="ERROR")
    if address is None:
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # all of it then binds to 127.0.0.1, and to nothing else
        options |= dict(address="local", num_cpus=cpus, include_dashboard=False)
    else:
        options |= dict(address=address)
    for attempts_left in reversed(range(_STARTS if address is None else 1)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()  # of what had been started
            if not attempts_left:
                where = "cannot be started on this machine" if address is None else f"cannot be reached at {address}"
                raise ParityError(f"Ray {where}: {cause(error)}") from error


@contextmanager
def _as_it_was(ray: ModuleType) -> Iterator[None]:
    """Set the environment that Ray starts in, and undo what ``ray.init`` does to the process: it takes SIGTERM."""
    before = {name: os.environ.get(name) for name in LOCAL_RAY}
    clusters = ray._private.ray_constants.ENABLE_RAY_CLUSTER
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    os.environ.update(LOCAL_RAY)
    try:
        yield
    finally:
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if in_main:
            signal.signal(signal.SIGTERM, handler)
