"""What becomes of a batch: an output each, or one failure for all."""

from collections.abc import Sequence

import pytest

from parity.workers.work import WorkerFailed, attempt


def test_outputs_are_returned_in_order() -> None:
    assert attempt(lambda numbers: [2 * number for number in numbers], [1, 2, 3], 1.0) == [2, 4, 6]


@pytest.mark.parametrize("error", [ValueError("negative"), SystemExit(3), MemoryError()])
def test_what_a_network_raises_is_a_failure_and_ends_no_worker(error: BaseException) -> None:
    def work(payloads: Sequence[int]) -> list[int]:
        raise error

    outcome = attempt(work, [1], 1.0)
    assert isinstance(outcome, WorkerFailed)
    assert type(error).__name__ in str(outcome)


def test_outputs_that_are_too_few_are_a_failure() -> None:
    assert "1 outputs for 2 queries" in str(attempt(lambda payloads: payloads[:1], [1, 2], 1.0))


def test_a_slow_worker_takes_its_factor_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    ticks = iter([0.0, 2.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    monkeypatch.setattr("time.sleep", slept.append)
    attempt(list, [1], 8.0)
    attempt(list, [1], 1.0)
    assert slept == [14.0]
