"""A pool that is driven by hand, over any engine: its work, a listener, and waits."""

import queue
import time
from collections.abc import Callable, Sequence

from parity.serving.pools import Pool, Supervision, WorkerHealth, WorkerState

SOON = 120.0  # generous: what is waited for comes at once, on a machine that is not busy

PATIENT = Supervision(silent_after=SOON, replace_after=SOON, start_timeout=SOON, probe_after=SOON)

Output = tuple[int, tuple[int, ...]]


def double(numbers: Sequence[int]) -> list[Output]:
    """Answer each number with its double, and with the batch that it was in."""
    if min(numbers) < 0:
        raise ValueError("negative")
    time.sleep(0.001)
    return [(2 * number, tuple(numbers)) for number in numbers]


class Outputs:
    """An output is a pair; None is what a damaged one looks like."""

    def problem(self, pool: int, output: Output | None) -> str:
        return "" if output is not None else "no pair"

    def damaged(self, output: Output | None) -> None:
        return None


class Heard:
    """A listener that queues what it hears."""

    def __init__(self) -> None:
        self.reports: queue.Queue[tuple[int, object]] = queue.Queue()

    def done(self, task: int, output: object) -> None:
        self.reports.put((task, output))

    def failed(self, task: int, error: BaseException) -> None:
        self.reports.put((task, error))

    def next(self) -> tuple[int, object]:
        return self.reports.get(timeout=SOON)


class Serving:
    """A pool that has been started, and what it reports; as a context, it ends the pool, also when the test fails."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.heard = pool, Heard()
        pool.start(self.heard)

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        ended = self.pool.drain(SOON if error is None else 0.0)
        assert ended or error is not None

    def health(self, worker: int) -> WorkerHealth:
        return self.pool.health()[worker]

    def wait_for(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < until, self.pool.health()
            time.sleep(0.005)

    def wait_for_full_strength(self) -> None:
        self.wait_for(lambda: all(worker.state is WorkerState.IDLE for worker in self.pool.health()))

    def give_work_to(self, worker: int) -> int:
        """Submit tasks, whose numbers are their payloads, until a stalled worker has one; return that."""
        task = 1000
        while (stuck := self.health(worker).task) is None:
            self.wait_for(lambda: not any(self.pool.queued()))
            self.pool.submit(task, self.health(worker).pool, task, group=task)
            task += 1
        return stuck

    def forget(self) -> list[tuple[int, object]]:
        """Drop what has been heard so far, and return it."""
        dropped = []
        while not self.heard.reports.empty():
            dropped.append(self.heard.reports.get())
        return dropped
