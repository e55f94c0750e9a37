"""This process's connection to Ray: to a cluster that is there, or to one that is started on this machine alone."""

import contextlib
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from parity.errors import ParityError, cause

LOCAL_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # workers would run at nice 15, behind whatever else this machine does
    "RAY_memory_monitor_refresh_ms": "0",  # it kills workers, and Ray's own, when others fill the machine
}
"""The environment in which Ray is started on this machine."""

_STARTS = 3  # Ray gives a node 30 s to start, which is too little where the machine is busy
_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


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


def local_node(cpus: int, object_store_memory: int | None = None) -> dict[str, Any]:
    """Return the options of a node of this machine, for ``ray.cluster_utils``.

    It goes without what no service needs: the dashboard, the autoscaler, the copying of logs. The ports of its agents
    are fixed: else it waits for each of them to announce its own, and dies if that takes more than 15 s
    (ray-project/ray#65983).

    Args:
        cpus: by its own account.
        object_store_memory: bytes; by default Ray's share of the memory that is free.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    return {
        "num_cpus": cpus,
        "object_store_memory": object_store_memory,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        **dict(zip(_PORTS, ports, strict=True)),
    }


def add_node(cluster: Any, options: dict[str, Any]) -> None:
    """Add a node to a cluster of this machine, at the second or third attempt if need be."""
    for left in reversed(range(_STARTS)):
        try:
            cluster.add_node(**options)
            return
        except Exception:
            if not left:
                raise


class Connection:
    """The connection, of which a process has one, for all engines that use it.

    It is ended with the last of them, unless it was there before; a cluster that was joined lives on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._opened_here = False
        self._cluster: Any = None

    def open(self, ray: ModuleType, address: str | None, cpus: int) -> None:
        """Connect, if this process is not connected; without an address, to a Ray that is started for it.

        Raises:
            ParityError: it is connected to another cluster, or this one cannot be started or reached.
        """
        with self._lock:
            if ray.is_initialized():
                _check_address(ray, address)
            else:
                with _as_it_was(ray):
                    self._connect(ray, address or self._start(ray, cpus))
                self._opened_here = True
            self._users += 1

    def close(self, ray: ModuleType) -> None:
        """Disconnect with the last user."""
        with self._lock:
            self._users -= 1
            if not self._users and self._opened_here:
                self._opened_here = False
                ray.shutdown()
                self._stop()

    def _connect(self, ray: ModuleType, address: str) -> None:
        namespace = f"parity-{uuid.uuid4().hex}"
        try:
            ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            ray.shutdown()
            self._stop()
            raise ParityError(f"the Ray cluster at {address} cannot be reached: {cause(error)}") from error

    def _start(self, ray: ModuleType, cpus: int) -> str:
        """Start Ray on this machine, and return its address. Everything of it binds to 127.0.0.1."""
        from ray.cluster_utils import Cluster

        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        self._cluster = Cluster()
        try:
            add_node(self._cluster, local_node(cpus))
        except Exception as error:
            self._stop()
            raise ParityError(f"Ray cannot be started on this machine: {cause(error)}") from error
        address: str = self._cluster.address
        return address

    def _stop(self) -> None:
        """End the Ray that was started here, if one was."""
        if self._cluster is not None and self._cluster.head_node is not None:
            self._cluster.shutdown()
        self._cluster = None


connection = Connection()


def _check_address(ray: ModuleType, address: str | None) -> None:
    connected = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", connected):
        raise ParityError(
            f"this process is connected to the Ray cluster {connected}: leave the address {address} out, "
            f"or call ray.shutdown() before."
        )


@contextlib.contextmanager
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
