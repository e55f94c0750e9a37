"""The server: ``await server.ask(query)`` over a coded model and a pool of workers."""

import asyncio
import logging
import math
import time
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.serving.commands import BASE, Accept
from parity.serving.encoding import INLINE
from parity.serving.generation import Generation
from parity.serving.policy import Policy
from parity.serving.pools import WorkerHealth, WorkerPool, WorkerState
from parity.serving.replies import Reply, Unavailable
from parity.serving.statistics import Statistics

_log = logging.getLogger(__name__)


class CodedServer:
    """Serves a coded model: every query is answered on time although a worker is slow or dead.

    All calls are made from one event loop; workers may be threads, processes or on other machines. The server is an
    asynchronous context manager that starts at the beginning and closes at the end.

    Args:
        coded_model: the code, whose networks the pool runs.
        policy: times, budgets and bounds.
        pool: the workers; see ``make_pool``.
        default: the prediction (*P) for queries that get no other and accept it; without one these raise
            ``Unanswered``.
        inline: seconds that an encoder may take in the event loop; a slower one runs in threads.

    Raises:
        ParityError: the policy does not suit the code.

    Attributes:
        statistics: counts since the server was made, over all versions.
    """

    def __init__(
        self,
        coded_model: CodedModel,
        policy: Policy,
        pool: WorkerPool[Tensor, Tensor],
        default: Tensor | None = None,
        inline: float = INLINE,
    ) -> None:
        self.statistics = Statistics()
        self.policy, self._default, self._inline = policy, default, inline
        self._now = self._generation(coded_model, pool, default)
        self._retiring: dict[Generation, asyncio.Task[bool]] = {}
        self._changing = asyncio.Lock()
        self._started = self._ready = self._closing = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def query_shape(self) -> tuple[int, ...]:
        """Shape Q of a query."""
        return self._now.query_shape

    @property
    def waiting(self) -> int:
        """Queries that wait for an answer."""
        return sum(generation.waiting for generation in (self._now, *self._retiring))

    async def start(self) -> None:
        """Start the workers; return when every one has answered its warm-up query and queries are taken.

        Raises:
            ParityError: no worker of a pool can start; or it has been started before, and what it serves is unharmed.
        """
        if self._started:
            raise ParityError("this server has been started before: make another one, with a pool of its own.")
        self._started = True
        try:
            await self._now.start()
        except BaseException:
            await self._now.close(0.0)
            raise
        self._ready = True

    async def ask(self, query: Tensor, deadline: float | None = None, accept: Accept = Accept.DEFAULT) -> Reply:
        """Return the prediction for a query. A caller that is cancelled drops it; the others of its group are unharmed.

        Args:
            query: (*Q), finite floating-point numbers on the CPU, of any precision, preprocessed as the base model
                expects it; or ids of tokens, int64.
            deadline: seconds from now; by default the policy's.
            accept: the worst source of the prediction. With ``own`` its own is waited for until the deadline.

        Raises:
            ParityError: a query of another shape or type, a deadline that is not a positive number, no source by that
                name, or a code that has no answers of their own.
            Unavailable: the server is not started, or it is closed.
            Unanswered: refused, late, or lost.
        """
        if (refusal := self.refusal()) is not None:
            raise Unavailable(refusal)
        query, accept = self._checked(query, deadline), _accept(accept)
        asked = time.monotonic()
        reply = await self._now.ask(query, deadline, accept)
        self.statistics.latencies[reply.source].observe(time.monotonic() - asked)
        return reply

    async def replace(
        self,
        coded_model: CodedModel,
        pool: WorkerPool[Tensor, Tensor],
        timeout: float = 10.0,
        default: Tensor | None = None,
    ) -> None:
        """Serve another version: start its workers beside the old ones, then send all new queries to them.

        It returns once new queries go to the new version. The old one answers the queries that it has accepted, and
        ends: a coding group is of one version. For that time there are workers of both. If the new version cannot
        start, the old one stays.

        Args:
            coded_model: of the same shapes of queries and predictions.
            pool: its workers.
            timeout: seconds that the old workers get to finish once every query is answered.
            default: as of a server; by default what was given before.

        Raises:
            ParityError: it cannot be started, takes other queries, or returns predictions of another shape.
        """
        if pool in [generation.pool for generation in (self._now, *self._retiring)]:
            raise ParityError("this pool serves already: make a pool for each version.")
        try:
            default = self._default if default is None else default
            new = self._generation(coded_model, pool, default)
        except BaseException:
            await asyncio.to_thread(pool.drain, 0.0)
            raise
        async with self._changing:
            try:
                if self._retiring:
                    await asyncio.wait(self._retiring.values())  # is not cancelled with this call
                self._check_shapes(new)
                await new.start()
                if (refusal := self.refusal()) is not None:
                    raise Unavailable(refusal)
            except BaseException:
                await new.close(0.0)
                raise
            old, self._now, self._default = self._now, new, default
            self._retiring[old] = asyncio.create_task(self._retire(old, timeout))

    async def _retire(self, old: Generation, timeout: float) -> bool:
        try:
            ended = await old.close(timeout)
        finally:
            del self._retiring[old]
        if not ended:
            _log.warning("a worker of the old version did not end within %g s.", timeout)
        return ended

    async def close(self, timeout: float = 10.0) -> bool:
        """Accept no further queries, answer those that wait, and end the workers.

        Args:
            timeout: seconds that workers get to finish once every query is answered.

        Returns:
            Whether all workers ended; one that hangs does not.
        """
        self.drain()
        return all(await asyncio.gather(self._now.close(timeout), *map(asyncio.shield, self._retiring.values())))

    def drain(self) -> None:
        """Accept no further queries; those that wait are answered."""
        self._closing = True

    def refusal(self) -> str | None:
        """Return why queries are refused now, in a sentence; None if they are taken."""
        if self._closing:
            return "this server is closed or about to close: ask another one."
        if not self._ready:
            workers = self.health()
            warm = sum(worker.state in (WorkerState.IDLE, WorkerState.BUSY) for worker in workers)
            return f"this server is starting, {warm} of {len(workers)} workers are warm: ask again soon."
        return None

    def problem(self) -> str | None:
        """Return why no answers are to be expected now, in a sentence; None if they are."""
        base = [worker.state for worker in self.health() if worker.pool == BASE]
        if base and all(state in (WorkerState.DEAD, WorkerState.STARTING) for state in base):
            return self.refusal() or "all workers of the base model are dead and being replaced: ask again soon."
        return self.refusal()

    def health(self) -> list[WorkerHealth]:
        """Return the state of every worker of the version that takes queries."""
        return self._now.pool.health()

    def queued(self) -> list[int]:
        """Return how many tasks wait in each pool of the version that takes queries."""
        return self._now.pool.queued()

    def _generation(
        self, coded_model: CodedModel, pool: WorkerPool[Tensor, Tensor], default: Tensor | None
    ) -> Generation:
        return Generation(coded_model, self.policy, pool, default, self.statistics, self._inline)

    def _check_shapes(self, new: Generation) -> None:
        if new.query_shape != self.query_shape:
            raise ParityError(
                f"the new version takes queries of shape {new.query_shape}, and this service's have "
                f"{self.query_shape}: start a service of its own for it."
            )
        if new.prediction_shape != self._now.prediction_shape:
            raise ParityError(
                f"the new version's predictions are of shape {new.prediction_shape}, and this service's of "
                f"{self._now.prediction_shape}: start a service of its own for it."
            )

    @staticmethod
    def _has_type(query: Tensor, ids: bool) -> bool:
        return query.dtype == torch.int64 if ids else query.is_floating_point()

    def _checked(self, query: Tensor, deadline: float | None) -> Tensor:
        """Return a query in the type that all of its group have."""
        wanted = self._now.query_type
        ids = not wanted.is_floating_point
        if not isinstance(query, Tensor) or query.shape != self.query_shape or not self._has_type(query, ids):
            got = f"{query.dtype} {tuple(query.shape)}" if isinstance(query, Tensor) else type(query).__name__
            kind = "tensor of ids, int64," if ids else "floating-point tensor"
            raise ParityError(f"a query is a {kind} of shape {self.query_shape}, not {got}.")
        query = query.to(wanted)
        if not torch.isfinite(query).all():
            raise ParityError("a query has finite numbers only, but this one has NaN or infinity in it.")
        if deadline is not None and not (deadline > 0 and math.isfinite(deadline)):
            raise ParityError(f"deadline is a number of seconds above 0, not {deadline}.")
        return query


def _accept(accept: Accept | str) -> Accept:
    try:
        return Accept(accept)
    except ValueError:
        raise ParityError(f"accept is one of {', '.join(Accept)}, not {accept!r}.") from None
