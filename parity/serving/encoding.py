"""Encoding outside the event loop, for encoders that would hold it up."""

import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from torch import Tensor

from parity.serving.code import Code

INLINE = 5e-4
"""An encoder that takes longer, in seconds, is called in a thread. A linear code takes 10 µs, a 224 px grid 3 ms."""

_TRIALS = 5


@dataclass(frozen=True, eq=False)
class Later:
    """A coded query that another thread may still be making.

    Args:
        coded: all of its group.
        index: which of them it is.
    """

    coded: "Future[Sequence[Tensor]]"
    index: int

    def get(self) -> Tensor:
        """Return the coded query (*Q), once it is made.

        Raises:
            Exception: the encoder's.
        """
        return self.coded.result()[self.index]


Payload = Tensor | Later


class LaterCode:
    """A code whose encoder runs in an executor; everything else of it as it is.

    Args:
        code: of queries that are tensors.
        executor: of threads.
    """

    def __init__(self, code: Code[Tensor, Tensor], executor: Executor) -> None:
        self.k, self.n, self.systematic, self.blank = code.k, code.n, code.systematic, code.blank
        self._code, self._executor = code, executor

    def pool(self, worker: int) -> int:
        """Return the pool of a worker."""
        return self._code.pool(worker)

    def encode(self, queries: Sequence[Payload]) -> list[Payload]:
        """Begin to encode k queries (*Q); return a place for each coded query."""
        coded = self._executor.submit(self._code.encode, queries)  # type: ignore[arg-type]  # queries are never coded
        return [Later(coded, index) for index in range(self.n - self.k if self.systematic else self.n)]

    def rebuildable(self, arrived: AbstractSet[int]) -> AbstractSet[int]:
        """Return which predictions can be rebuilt from the outputs of these workers."""
        return self._code.rebuildable(arrived)

    def decode(self, outputs: Mapping[int, Tensor]) -> Sequence[Tensor]:
        """Rebuild k predictions (*P) from the outputs by worker."""
        return self._code.decode(outputs)


def encoding_time(code: Code[Tensor, Tensor]) -> float:
    """Return the seconds that encoding a group takes the thread that asks for it, whatever else the machine does."""
    times = []
    for _ in range(_TRIALS):
        started = time.thread_time()
        code.encode([code.blank] * code.k)
        times.append(time.thread_time() - started)
    return min(times)
