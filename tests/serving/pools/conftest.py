"""The engines that the tests of the pools run over."""

from collections.abc import Callable, Iterator

import pytest

from parity.serving.pools import Batching, Pool
from parity.serving.pools.engine import Engine
from parity.serving.pools.processes import ProcessEngine
from parity.serving.pools.ray_actors import RayEngine
from parity.serving.pools.threads import ThreadEngine
from tests.serving.pools.harness import PATIENT, SOON, Outputs, Serving, double


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of this machine for the tests of a module."""
    ray = pytest.importorskip("ray")
    assert not ray.is_initialized()
    engine: RayEngine = RayEngine([], workers=8)
    yield
    engine.close()
    assert not ray.is_initialized()


@pytest.fixture(scope="module", params=["threads", "processes", "ray"])
def make_engine(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """Return what makes an engine of the kind that is tested."""
    if request.param == "threads":
        return ThreadEngine
    if request.param == "processes":
        return ProcessEngine
    request.getfixturevalue("local_ray")
    return lambda work: RayEngine(work, workers=1)


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
