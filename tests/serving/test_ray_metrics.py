"""A service's counts among Ray's metrics: increments of counters, values of gauges, and Ray exports them."""

import asyncio
import re
import urllib.request
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from parity.serving import CodedServer, Policy, WorkerState, make_pool, ray_metrics
from parity.serving.load import linear_networks
from parity.serving.pools.ray_connection import local_node

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def fake_ray(counted: Counter[Any], gauges: Values) -> Any:
    """Stand for ``ray.util.metrics``: counters refuse what is not an increment."""

    def counter(name: str, description: str, tags: tuple[str, ...]) -> Any:
        def inc(value: float, tags: dict[str, str]) -> None:
            assert value > 0
            counted[name, tuple(tags.items())] += value

        return SimpleNamespace(inc=inc)

    def gauge(name: str, description: str, tags: tuple[str, ...]) -> Any:
        return SimpleNamespace(set=lambda value, tags: gauges.update({(name, tuple(tags.items())): value}))

    return SimpleNamespace(Counter=counter, Gauge=gauge)


async def ask(server: CodedServer, times: int) -> None:
    for _ in range(times):
        await server.ask(torch.ones(8))


def test_each_counter_gets_what_was_added_and_each_gauge_its_value() -> None:
    counted: Counter[Any] = Counter()
    gauges: Values = {}
    model = linear_networks(2, 1)

    async def test() -> None:
        async with CodedServer(model, Policy(patience=60), make_pool("threads", model, 1)) as server:
            exporter = ray_metrics.Exporter(fake_ray(counted, gauges))
            for times in (3, 0, 2):
                await ask(server, times)
                while any(worker.state != WorkerState.IDLE for worker in server.health()):  # the parity model's task
                    await asyncio.sleep(0.01)
                exporter.pass_on(server)

    asyncio.run(asyncio.wait_for(test(), 60))
    assert counted["parity_latency_seconds_count", (("source", "own"),)] == 5
    assert counted["parity_latency_seconds_bucket", (("source", "own"), ("le", "+Inf"))] == 5
    assert counted["parity_tasks", (("pool", "0"),)] == 5
    assert gauges["parity_workers", (("pool", "1"), ("state", "idle"))] == 1
    assert gauges["parity_waiting_queries", ()] == 0


def exported(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        return str(page.read().decode())


def test_ray_exports_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[int] = []

    def node(*arguments: Any) -> dict[str, Any]:
        options = local_node(*arguments)
        ports.append(options["metrics_export_port"])
        return options

    monkeypatch.setattr("parity.serving.pools.ray_connection.local_node", node)
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    model = linear_networks(2, 1)

    async def test() -> str:
        async with CodedServer(model, Policy(patience=60), make_pool("ray", model, 1)) as server:
            watching = asyncio.create_task(ray_metrics.export(server, every=0.5))
            await ask(server, 3)
            page = ""
            while not re.search(r"^ray_parity_latency_seconds_count\w*\{.*own.*\} 3", page, re.MULTILINE):
                await asyncio.sleep(0.5)
                page = await asyncio.to_thread(exported, ports[-1])
            watching.cancel()
            return page

    assert "ray_parity_workers" in asyncio.run(asyncio.wait_for(test(), 240))
