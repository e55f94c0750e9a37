"""The engines that the tests of the pools run over."""

from collections.abc import Callable, Iterator

import pytest

from parity.serving.pools import Batching, Pool
from parity.serving.pools.engine import Engine
from parity.serving.pools.processes import ProcessEngine
from parity.serving.pools.ray_actors import RayEngine
from parity.serving.pools.ray_connection import LOCAL_RAY, add_node, local_node
from parity.serving.pools.threads import ThreadEngine
from tests.serving.pools.harness import PATIENT, Outputs, Serving, double


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
                add_node(cluster, local_node(cpus=6, object_store_memory=80 << 20))
            yield cluster.address
        finally:
            cluster.shutdown()


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
    with Serving(Pool(make_engine([double, double]), [2, 1], [0, 0], Outputs(), Batching(3), PATIENT)) as serving:
        yield serving


@pytest.fixture
def serving(shared: Serving) -> Iterator[Serving]:
    """The shared pool, at full strength; what a test that fails leaves behind is gone before the next one."""
    shared.wait_for_full_strength()
    yield shared
    for worker in range(3):
        shared.pool.faults.release(worker)
    shared.wait_for_full_strength()
    assert not shared.forget()
