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
    """A pool that has been started, and what it reports."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.heard = pool, Heard()
        pool.start(self.heard)

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
        """Submit tasks, whose numbers are their payloads, until a stalled worker has one and keeps it; return that.

        A signal to a worker of another machine takes a while.
        """
        task = 1000
        while True:
            self.wait_for(lambda: not any(self.pool.queued()))
            self.pool.submit(task, self.health(worker).pool, task, group=task)
            task += 1
            stuck = self.health(worker).task
            time.sleep(0.5 if stuck is not None else 0.02)
            if stuck is not None and stuck == self.health(worker).task:
                return stuck

    def forget(self) -> None:
        """Drop what has been heard so far."""
        while not self.heard.reports.empty():
            self.heard.reports.get()
