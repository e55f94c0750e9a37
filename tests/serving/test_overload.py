"""Twice the load that the workers can take, over HTTP: what is accepted is on time, the rest is refused at once."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import pytest
import torch

from parity.serving import Policy, Servable, Service, make_pool, most_waiting_for
from parity.serving.load import linear_networks
from parity.serving.measuring.open_loop import due_times
from parity.serving.measuring.workers import Sleeping
from tests.serving.test_http import serving


@dataclass
class Seen:
    """What clients saw of a load, in seconds from when each query was due."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    most_waiting: int = 0

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self.answered, percent))


def sleeping_service(workers: int, service: float) -> Service:
    """A service with the defaults of serve.py, whose workers sleep."""
    model = linear_networks(2, 1)
    work = [Sleeping(network, service) for network in (model.base_model, *model.parity_models)]
    policy = Policy(relative_patience=1.5, most_waiting=most_waiting_for(workers))
    return Service(
        lambda: Servable(model, lambda stored: stored, torch.float32, "sleeping", "1"),
        lambda _: make_pool("threads", model, workers, work=work),
        policy,
    )


async def offered(client: aiohttp.ClientSession, service: Service, rate: float, seconds: float) -> Seen:
    """Offer a load; return what became of it."""
    seen, start = Seen(), time.monotonic()

    async def ask(due: float) -> None:
        async with client.post("/predict", json={"query": [0.5] * 8}) as response:
            await response.read()
        taken = time.monotonic() - start - due
        if response.status == 503 and response.headers["Retry-After"] == "1":
            seen.refused.append(taken)
        elif response.status == 200:
            seen.answered.append(taken)
        else:
            seen.others.append(response.status)

    async with asyncio.TaskGroup() as tasks:
        for due in due_times(rate, round(rate * seconds)):
            await asyncio.sleep(max(0.0, start + due - time.monotonic()))
            tasks.create_task(ask(due))
            seen.most_waiting = max(seen.most_waiting, service.server.waiting)
    return seen


def resident() -> int:
    """Return this process's memory in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_at_twice_the_load_what_is_accepted_is_on_time_and_the_rest_is_refused_at_once(seconds: float) -> None:
    workers, takes = 8, 0.25
    full = workers / takes

    async def test() -> tuple[Seen, Seen, Seen, int]:
        service = sleeping_service(workers, takes)
        async with serving(service) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            half = await offered(client, service, full / 2, seconds)
            before = resident()
            double = await offered(client, service, 2 * full, seconds)
            growth = resident() - before
            await asyncio.sleep(1.0)
            return half, double, await offered(client, service, full / 2, 5.0), growth

    half, double, after, growth = asyncio.run(test())
    assert double.others == half.others == after.others == []
    assert len(after.refused) <= 0.05 * len(after.answered)
    assert double.most_waiting <= most_waiting_for(workers)
    assert 0.3 < len(double.refused) / (len(double.refused) + len(double.answered)) < 0.6
    assert np.percentile(double.refused, 95) < takes
    assert double.percentile(99) <= 3 * half.percentile(50)
    assert after.percentile(90) <= 2 * half.percentile(50)
    assert growth < 50
