"""What a driver needs of a pool of workers, whichever engine runs them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from parity.errors import ParityError

Q_in = TypeVar("Q_in", contravariant=True)
P_in = TypeVar("P_in", contravariant=True)
P_out = TypeVar("P_out", covariant=True)


class WorkerState(StrEnum):
    """What a worker is at."""

    STARTING = "starting"  # it has not answered its warm-up query
    IDLE = "idle"
    BUSY = "busy"
    SILENT = "silent"  # busy for much longer than it should be
    DEAD = "dead"  # its replacement has not been started


@dataclass(frozen=True)
class WorkerHealth:
    """What a worker is at.

    Attributes:
        worker: its index, over all pools.
        pool: which it belongs to.
        task: which it is busy with (the first of a batch), also if that was abandoned, or None.
        state: as far as the frontend can know it.
        restarts: how many times it has been replaced.
        error: why it was replaced last, or could not start; empty if it never was.
    """

    worker: int
    pool: int
    task: int | None
    state: WorkerState
    restarts: int = 0
    error: str = ""


@dataclass(frozen=True)
class Batching:
    """How many queued tasks a worker takes at once: one forward pass on the stack of them.

    Args:
        max_batch_size: the most tasks of a batch, which never holds two outputs of one coding group.
        batch_wait: seconds that an idle worker waits, from a task's arrival, for further ones.

    Raises:
        ParityError: a value is out of range.
    """

    max_batch_size: int = 1
    batch_wait: float = 0.0

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise ParityError(f"max_batch_size must be at least 1, not {self.max_batch_size}.")
        if not self.batch_wait >= 0:
            raise ParityError(f"batch_wait must be at least 0 seconds, not {self.batch_wait}.")


@dataclass(frozen=True)
class Supervision:
    """When a worker is given up. Times are in seconds.

    Args:
        silent_after: a worker that is busy for longer is ``SILENT``; or for longer than 10 times what its pool needs on
            average, if that is more, so that slow networks are left in peace.
        replace_after: a worker that has been silent for so long is killed and replaced, and its tasks fail.
        start_timeout: a worker that has not answered its warm-up query after so long is killed and started again.
        probe_after: a worker that has been idle for so long is asked the warm-up query, so that one which hangs is
            found before a query is.

    Raises:
        ParityError: a value is out of range.
    """

    silent_after: float = 1.0
    replace_after: float = 5.0
    start_timeout: float = 120.0
    probe_after: float = 10.0

    def __post_init__(self) -> None:
        for name in ("silent_after", "replace_after", "start_timeout", "probe_after"):
            if not getattr(self, name) > 0:
                raise ParityError(f"{name} must be more than 0 seconds, not {getattr(self, name)}.")


class Listener(Protocol[P_in]):
    """Who hears what became of the tasks, each at most once; called from any thread."""

    def done(self, task: int, output: P_in) -> None:
        """A worker answered."""
        ...

    def failed(self, task: int, error: BaseException) -> None:
        """A worker could not answer."""
        ...


class Faults(Protocol):
    """Faults of workers, made on purpose, by the workers' indices; may be changed while they work."""

    def stall(self, worker: int) -> None:
        """Stop a worker: neither what it has nor what it takes is answered until it is released."""
        ...

    def release(self, worker: int) -> None:
        """Let a stalled worker continue."""
        ...

    def slow(self, worker: int, factor: float) -> None:
        """Make a worker take so many times as long for what it starts; 1 makes it well again."""
        ...

    def lose(self, worker: int, answers: int = 1) -> None:
        """Lose a worker's next answers: it works, and nothing is heard of it."""
        ...

    def damage(self, worker: int, answers: int = 1) -> None:
        """Damage a worker's next answers so that they are not predictions: not finite."""
        ...

    def kill(self, worker: int) -> None:
        """Kill a worker with what it has."""
        ...


class WorkerPool(Protocol[Q_in, P_out]):
    """Workers in pools, each pool with a single queue that its idle workers pull from.

    A worker counts as busy until it has answered, even where nobody waits for the answer any more. It is idle only
    once it has answered a warm-up query. One that dies fails its tasks and is replaced; so is one that fails the
    warm-up query, which it is asked again after it was idle for long, or after three batches in a row that it failed.
    """

    @property
    def faults(self) -> Faults:
        """Faults to make on purpose."""
        ...

    def start(self, listener: Listener[P_out]) -> None:
        """Start the workers, for one listener; does not wait until they are warm."""
        ...

    def submit(self, task: int, pool: int, payload: Q_in, group: int) -> None:
        """Queue a task; ``group`` is the coding group that its output belongs to."""
        ...

    def abandon(self, task: int) -> None:
        """Take a task out of its queue; a worker that has it goes through with it."""
        ...

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker."""
        ...

    def queued(self) -> list[int]:
        """Return how many tasks wait in the queue of each pool."""
        ...

    def drain(self, timeout: float) -> bool:
        """Finish what is queued, then end the workers; return whether all ended within so many seconds.

        What has not ended by then is killed.
        """
        ...
