"""The asyncio driver: ``await server.ask(query)`` over a coded model and a pool of workers."""

import asyncio
import contextlib
import itertools
import logging
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.serving.commands import Answer, Cancel, Command, Fail, Reason, Send, Source
from parity.serving.core import Core
from parity.serving.model_code import ModelCode
from parity.serving.policy import Policy
from parity.serving.pools import WorkerPool

_log = logging.getLogger(__name__)

_WHY = {
    Reason.REFUSED: "too many queries are waiting: ask again later",
    Reason.LATE: "no answer within the deadline: ask again, or allow more time",
    Reason.LOST: "every worker that could have answered has failed: ask again",
}


class Unanswered(ParityError):
    """A query gets no answer.

    Args:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"{_WHY[reason]}.")
        self.reason = reason


@dataclass(frozen=True)
class Reply:
    """What ``ask`` returns: a prediction (*P), and where it comes from."""

    prediction: Tensor
    source: Source


class CodedServer:
    """Serves a coded model: every query is answered on time although a worker is slow or dead.

    All calls are made from one event loop; workers may be threads, or elsewhere. The server is an asynchronous context
    manager that closes at the end.

    Args:
        coded_model: the code, whose networks the pool runs.
        policy: times, budgets and bounds.
        pool: the workers; see ``make_pool``.
        default: the prediction (*P) for queries that get no other; by default these raise ``Unanswered``.

    Raises:
        ParityError: the policy does not suit the code.
    """

    def __init__(
        self,
        coded_model: CodedModel,
        policy: Policy,
        pool: WorkerPool[Tensor, Tensor],
        default: Tensor | None = None,
    ) -> None:
        self._core: Core[Tensor, Tensor] = Core(policy, ModelCode(coded_model), default)
        self._query_shape = coded_model.encoder.query_shape
        self._pool = pool
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False

    async def __aenter__(self) -> "CodedServer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask(self, query: Tensor, deadline: float | None = None) -> Reply:
        """Return the prediction for a query.

        Args:
            query: (*Q), finite floating-point numbers on the CPU, preprocessed as the base model expects it.
            deadline: seconds from now; by default the policy's.

        Raises:
            ParityError: a query of another shape or type, a deadline that is not a positive number, or the server is
                closed.
            Unanswered: refused, late, or lost.
        """
        self._check(query, deadline)
        loop = self._start()
        number = next(self._numbers)
        reply = self._replies[number] = loop.create_future()
        self._carry_out(self._core.arrive(loop.time(), number, query, deadline))
        return await reply

    async def close(self, timeout: float = 10.0) -> bool:
        """Accept no further queries, answer those that wait, and end the workers.

        Args:
            timeout: seconds that workers get to finish once every query is answered.

        Returns:
            Whether all workers ended; one that hangs does not.
        """
        self._closing = True
        if self._replies:
            await asyncio.wait(list(self._replies.values()))
        if self._timer is not None:
            self._timer.cancel()
        return await asyncio.to_thread(self._pool.drain, timeout)

    def _check(self, query: Tensor, deadline: float | None) -> None:
        if self._closing:
            raise ParityError("this server is closed: make another one.")
        if not isinstance(query, Tensor) or not query.is_floating_point() or query.shape != self._query_shape:
            got = f"{query.dtype} {tuple(query.shape)}" if isinstance(query, Tensor) else type(query).__name__
            raise ParityError(f"a query is a floating-point tensor of shape {self._query_shape}, not {got}.")
        if not torch.isfinite(query).all():
            raise ParityError("a query has finite numbers only, but this one has NaN or infinity in it.")
        if deadline is not None and not (deadline > 0 and math.isfinite(deadline)):
            raise ParityError(f"deadline is a number of seconds above 0, not {deadline}.")

    def _start(self) -> asyncio.AbstractEventLoop:
        """Start the workers with the first query, when the event loop is there."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._pool.start(_LoopListener(self, loop))
        return loop

    def _hear(self, task: int, output: Tensor | None) -> None:
        assert self._loop is not None
        now = self._loop.time()
        commands = self._core.failed(now, task) if output is None else self._core.done(now, task, output)
        self._carry_out(commands)

    def _tick(self) -> None:
        assert self._loop is not None
        self._timer = None
        self._carry_out(self._core.tick(self._loop.time()))

    def _carry_out(self, commands: Sequence[Command[Tensor, Tensor]]) -> None:
        for command in commands:
            match command:
                case Send(task, pool, payload):
                    self._pool.submit(task, pool, payload, group=task)
                case Cancel(task):
                    self._pool.abandon(task)
                case Answer(query, value, source):
                    self._reply(query, Reply(value, source))
                case Fail(query, reason):
                    self._reply(query, Unanswered(reason))
        self._set_timer()

    def _reply(self, query: Hashable, end: Reply | Unanswered) -> None:
        assert isinstance(query, int)
        reply = self._replies.pop(query)
        if reply.done():
            return  # the client has hung up
        if isinstance(end, Unanswered):
            reply.set_exception(end)
        else:
            reply.set_result(end)

    def _set_timer(self) -> None:
        """Wake up at the core's next tick, and at no other time."""
        at = self._core.next_tick()
        if self._timer is not None and self._timer.when() == at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None or self._loop is None else self._loop.call_at(at, self._tick)


class _LoopListener:
    """Passes on, into the event loop, what a pool reports from its threads."""

    def __init__(self, server: CodedServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop = server, loop

    def done(self, task: int, output: Tensor) -> None:
        self._pass_on(task, output)

    def failed(self, task: int, error: BaseException) -> None:
        _log.warning("task %d failed: %s: %s", task, type(error).__name__, error)
        self._pass_on(task, None)

    def _pass_on(self, task: int, output: Tensor | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._server._hear, task, output)
