"""Open-loop load: latency counts from when a query was due, also while a service stalls or the sender is late."""

import asyncio

import numpy as np
import pytest

from parity.errors import ParityError
from parity.serving.commands import Source
from parity.serving.measuring.open_loop import NotAnswered, due_times, load_is_offered, offer
from parity.serving.measuring.record import Record
from tests.serving.measuring.virtual_clock import VirtualLoop, run


def test_arrivals_are_random_at_the_rate_that_was_asked_for_and_repeat_with_a_seed() -> None:
    due = np.array(due_times(rate=50.0, queries=20_000, seed=1))
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)  # of an exponential distribution, as large as the mean
    assert due_times(50.0, 10, seed=1) == due[:10].tolist() != due_times(50.0, 10, seed=2)


def test_a_service_that_stalls_is_charged_for_every_query_that_was_due_meanwhile() -> None:
    async def main() -> Record:
        async def ask(query: int) -> str:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(2.0 - now if 1.0 <= now < 2.0 else 0.01)  # it stalls from 1 s to 2 s
            return Source.OWN

        record = Record()
        await offer(ask, [i / 100 for i in range(300)], record)
        return record

    record = run(main())
    assert record.all.count == 300
    # A third of the queries wait 0.5 s on average; a closed loop would have sent a single one of them.
    assert record.all.percentile(50) == pytest.approx(0.01, rel=0.01)
    assert record.all.percentile(2 / 3 * 100 + 100 / 6) == pytest.approx(0.5, abs=0.02)
    assert record.all.max == pytest.approx(1.0, abs=0.02)


def test_a_sender_that_is_late_adds_to_the_latency_and_warns() -> None:
    async def main() -> Record:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        async def ask(query: int) -> str:
            loop._virtual += 0.05  # the event loop is held up: as if sending cost as much
            return Source.OWN

        record = Record()
        await offer(ask, [i / 100 for i in range(100)], record)
        return record

    record = run(main())
    assert record.all.max > 3.0
    warning = load_is_offered(record, rate=100)
    assert warning is not None
    assert "cannot send 100 queries a second" in warning


def test_a_sender_that_is_on_time_does_not_warn() -> None:
    record = Record()
    record.send(0.001)
    assert load_is_offered(record, rate=100) is None


def test_failures_are_counted_by_reason_and_are_not_latencies() -> None:
    async def main() -> Record:
        async def ask(query: int) -> str:
            if query % 2:
                raise NotAnswered("late")
            return Source.REBUILT

        record = Record()
        await offer(ask, [0.0] * 10, record)
        return record

    record = run(main())
    assert record.failures == {"late": 5}
    assert record.share(Source.REBUILT) == 0.5
    assert record.waiting == 0
    assert record.summary()["all"]["count"] == 5


def test_an_error_that_all_queries_would_meet_ends_the_load_with_its_sentence() -> None:
    async def ask(query: int) -> str:
        raise ParityError("there is no service.")

    with pytest.raises(ParityError, match="there is no service"):
        run(offer(ask, [0.0, 1.0, 1e6], Record()))


@pytest.mark.parametrize(("rate", "queries"), [(0.0, 1), (float("inf"), 1), (1.0, 0)])
def test_no_load_is_refused(rate: float, queries: int) -> None:
    with pytest.raises(ParityError, match="a load needs queries"):
        due_times(rate, queries)
