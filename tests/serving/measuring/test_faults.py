"""Faults by schedule: real workers meet what simulated ones do, and are well again afterwards."""

import asyncio
import itertools
import random

import pytest

from parity.errors import ParityError
from parity.serving.disturbances import Damaged, Disturbance, Frozen, Killed, Lost, Slow, Tenant
from parity.serving.measuring.faults import disturbed
from tests.serving.measuring.virtual_clock import run

Call = tuple[float, str, int]


class Noted:
    """Faults that note when they were made."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def _note(self, what: str, worker: int) -> None:
        self.calls.append((round(asyncio.get_running_loop().time(), 6), what, worker))

    def stall(self, worker: int) -> None:
        self._note("stall", worker)

    def release(self, worker: int) -> None:
        self._note("release", worker)

    def slow(self, worker: int, factor: float) -> None:
        self._note(f"slow {factor:g}", worker)

    def lose(self, worker: int, answers: int = 1) -> None:
        self._note("lose", worker)

    def damage(self, worker: int, answers: int = 1) -> None:
        self._note("damage", worker)

    def kill(self, worker: int) -> None:
        self._note("kill", worker)


def calls(disturbance: Disturbance | None, seconds: float, workers: int = 12) -> list[Call]:
    """Return what happens to workers in so many seconds and at their end."""

    async def main() -> list[Call]:
        faults = Noted()
        async with disturbed(disturbance, faults, workers, seed=3):
            await asyncio.sleep(seconds)
        return faults.calls

    return run(main())


def drawn(times: int, workers: int = 12) -> list[int]:
    """Return the workers that the simulator draws with the same seed."""
    chance = random.Random("disturbances 3")
    return [chance.sample(range(workers), 1)[0] for _ in range(times)]


def test_a_frozen_worker_is_released_in_time_and_the_last_one_at_the_end() -> None:
    first, second = drawn(2)
    assert calls(Frozen(every=1.5, freeze=1.0), seconds=2.0) == [
        (0.0, "stall", first), (1.0, "release", first), (1.5, "stall", second), (2.0, "release", second),
    ]  # fmt: skip


def test_a_freeze_that_is_longer_than_the_pause_between_draws_is_counted_from_its_last_beginning() -> None:
    found = calls(Frozen(every=1.0, freeze=1.5), seconds=3.4, workers=1)
    assert [what for _, what, _ in found] == ["stall"] * 4 + ["release"]


def test_slow_workers_are_redrawn_and_none_stays_slow() -> None:
    first, second = drawn(2)
    assert calls(Slow(every=1.5, factor=8.0), seconds=2.0) == [
        (0.0, "slow 8", first), (1.5, "slow 1", first), (1.5, "slow 8", second), (2.0, "slow 1", second),
    ]  # fmt: skip


@pytest.mark.parametrize(("fault", "name"), [(Killed, "kill"), (Lost, "lose"), (Damaged, "damage")])
def test_workers_are_killed_and_their_answers_lost_or_damaged_as_in_the_simulator(fault: type, name: str) -> None:
    found = calls(fault(every=1.0), seconds=2.5)
    assert found == [(float(at), name, worker) for at, worker in enumerate(drawn(3))]


def test_nothing_happens_without_a_disturbance() -> None:
    assert calls(None, seconds=5.0) == []


def test_what_cannot_be_done_to_real_workers_is_an_error_and_not_silence() -> None:
    with pytest.raises(ParityError, match="a second service"):
        calls(Tenant(), seconds=1.0)


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    assert calls(Slow(), 9.0) == calls(Slow(), 9.0)
    assert len(set(itertools.islice(drawn(20), 20))) > 4
