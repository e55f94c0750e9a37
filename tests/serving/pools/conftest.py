"""The engines that the tests of the pools run over."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from parity.serving.pools import Batching, Pool
from parity.serving.pools.engine import Engine
from parity.serving.pools.processes import ProcessEngine
from parity.serving.pools.ray_actors import LOCAL_RAY, RayEngine
from parity.serving.pools.threads import ThreadEngine
from tests.serving.pools.harness import PATIENT, SOON, Outputs, Serving, double


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Return the address of a Ray cluster of two nodes on this machine, with 6 CPUs each by its own account."""
    ray_constants = pytest.importorskip("ray._private.ray_constants")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # it binds to 127.0.0.1
        for name, value in LOCAL_RAY.items():
            patch.setenv(name, value)
        cluster = cluster_utils.Cluster()
        try:
            for _ in range(2):
                _add_node(cluster)
            yield cluster.address
        finally:
            cluster.shutdown()


def _add_node(cluster: Any, attempts: int = 4) -> None:
    """Add a node; a machine that is busy does not start one within the 30 seconds that Ray gives it."""
    for left in reversed(range(attempts)):
        try:
            cluster.add_node(**_small_node())
            return
        except Exception:
            if not left:
                raise


def _small_node() -> dict[str, object]:
    """Return a node without what a test does not need; with fixed ports, or it waits for agents that are slow to start.

    Without them its raylet gives up after 15 seconds (ray-project/ray#65983).
    """
    ports = ["metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port"]
    return {
        "num_cpus": 6,
        "object_store_memory": 80 << 20,
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        **dict(zip(ports, _free_ports(len(ports)), strict=True)),
    }


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module", params=["threads", "processes", "ray"])
def make_engine(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """Return what makes an engine of the kind that is tested."""
    if request.param == "threads":
        return ThreadEngine
    if request.param == "processes":
        return ProcessEngine
    address = request.getfixturevalue("cluster")
    return lambda work: RayEngine(work, workers=1, address=address)


@pytest.fixture(scope="module")
def shared(make_engine: Callable[..., Engine]) -> Iterator[Serving]:
    """Two workers and one in a second pool, which take up to three tasks at once, for all tests of the module."""
    serving = Serving(Pool(make_engine([double, double]), [2, 1], 0, Outputs(), Batching(3), PATIENT))
    yield serving
    assert serving.pool.drain(SOON)


@pytest.fixture
def serving(shared: Serving) -> Serving:
    """The shared pool, at full strength, with nothing that was left over."""
    shared.wait_for_full_strength()
    assert shared.heard.reports.empty()
    return shared
