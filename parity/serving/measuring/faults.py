"""Faults of real workers by the schedules of ``parity.serving.disturbances``."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from parity.errors import ParityError
from parity.serving.disturbances import Disturbance
from parity.serving.pools import Faults


class _LiveWorkers:
    """Does to the workers of a pool, in an event loop, what a disturbance asks for."""

    def __init__(self, faults: Faults, workers: int, loop: asyncio.AbstractEventLoop) -> None:
        self._faults, self._workers, self._loop = faults, workers, loop
        self._started = loop.time()
        self._slow: set[int] = set()
        self._frozen: dict[int, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return self._workers

    def slow(self, worker: int, factor: float) -> None:
        self._faults.slow(worker, factor)
        (self._slow.add if factor > 1 else self._slow.discard)(worker)

    def freeze(self, now: float, worker: int, until: float) -> None:
        if worker in self._frozen:
            self._frozen.pop(worker).cancel()
        self._faults.stall(worker)
        self._frozen[worker] = self._loop.call_at(self._started + until, self._release, worker)

    def kill(self, now: float, worker: int, until: float) -> None:
        self._faults.kill(worker)

    def lose(self, worker: int) -> None:
        self._faults.lose(worker)

    def damage(self, worker: int) -> None:
        self._faults.damage(worker)

    def share(self, worker: int, load: float) -> None:
        raise ParityError("a second service on real workers is one to be started beside them: use another fault.")

    def heal(self) -> None:
        for worker, release in list(self._frozen.items()):
            release.cancel()
            self._release(worker)
        for worker in list(self._slow):
            self.slow(worker, 1.0)

    def _release(self, worker: int) -> None:
        self._frozen.pop(worker, None)
        self._faults.release(worker)


def hush() -> None:
    """Log no warnings about workers that fail: where that is made to happen, they would drown everything else."""
    for name in ("pools", "generation"):
        logging.getLogger(f"parity.serving.{name}").setLevel(logging.ERROR)


@asynccontextmanager
async def disturbed(
    disturbance: Disturbance | None, faults: Faults, workers: int, seed: int = 0
) -> AsyncIterator[None]:
    """Disturb the workers of a pool within this block; afterwards those that are slow or frozen are well again.

    Args:
        disturbance: what happens to them; None for nothing.
        faults: the pool's.
        workers: of all pools together.
        seed: makes the schedule.
    """
    if disturbance is None:
        yield
        return
    loop = asyncio.get_running_loop()
    live = _LiveWorkers(faults, workers, loop)
    task = asyncio.create_task(_run(disturbance, live, loop, random.Random(f"disturbances {seed}")))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        live.heal()
        if not task.cancelled():
            task.result()


async def _run(
    disturbance: Disturbance, workers: _LiveWorkers, loop: asyncio.AbstractEventLoop, random: random.Random
) -> None:
    start = loop.time()
    for at in disturbance.disturb(workers, random):
        if at == float("inf"):
            return
        await asyncio.sleep(start + at - loop.time())
