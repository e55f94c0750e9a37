"""Ray that is started for a service: on this machine alone, and ended; the soak over it."""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from parity.errors import ParityError
from parity.serving.pools import Pool
from parity.serving.pools.ray_actors import RayEngine
from parity.serving.pools.ray_connection import LOCAL_RAY
from tests.serving.pools.harness import PATIENT, Outputs, Serving

ray = pytest.importorskip("ray")

CPUS = 8


def place(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the process and its niceness, for each number."""
    return [(os.getpid(), os.nice(0)) for _ in numbers]


def script(name: str) -> ModuleType:
    """Return a script of benchmarks/ as a module."""
    file = Path(__file__).parents[3] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray that an engine has started on this machine; it ends with the engine."""
    handler = signal.getsignal(signal.SIGTERM)
    engine: RayEngine = RayEngine([], workers=CPUS)
    assert not LOCAL_RAY.keys() & os.environ.keys()
    assert signal.getsignal(signal.SIGTERM) is handler, "who serves decides what SIGTERM does"
    yield
    engine.close()
    assert not ray.is_initialized()


@pytest.mark.usefixtures("local_ray")
def test_everything_binds_to_this_machine_alone_and_workers_are_as_nice_as_the_frontend() -> None:
    with Serving(Pool(RayEngine([place], workers=1), [1], [0], Outputs(), supervision=PATIENT)) as serving:
        serving.pool.submit(0, 0, 1, group=0)
        process, niceness = serving.heard.next()[1]
        assert niceness == os.nice(0)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert process in [each.pid for each in family]
        addresses = {
            connection.laddr.ip.removeprefix("::ffff:")
            for each in family
            for connection in each.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
        assert {psutil.Process(process).environ()[name] for name in LOCAL_RAY} == set(LOCAL_RAY.values())
    assert ray.is_initialized(), "another engine still uses it"


@pytest.mark.usefixtures("local_ray")
def test_a_cluster_that_is_too_small_or_another_one_is_refused() -> None:
    with pytest.raises(ParityError, match=f"has {CPUS} CPUs, and the workers need 18"):
        RayEngine([place], workers=9, threads=2)
    with pytest.raises(ParityError, match="is connected to the Ray cluster"):
        RayEngine([place], workers=1, address="192.0.2.1:6379")
    assert ray.is_initialized()


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    "faults", [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["few", "many"]
)
def test_workers_killed_and_stopped_one_after_another_cost_no_query_its_answer(faults: int) -> None:
    found = script("serving_soak").soak(faults, seed=1)
    assert found.wrong == []
    assert len(found.latencies) == found.asked > 10 * faults
    assert sum(map(len, found.recoveries.values())) == faults
    assert found.pools["parity"] >= faults // 5
    assert len(found.recoveries["killed"]) >= faults // 5
