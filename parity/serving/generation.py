"""One version of a coded model in service: its core, its workers, and the queries that wait for it."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from parity.coded_model import CodedModel
from parity.errors import ParityError
from parity.serving.code import Code
from parity.serving.commands import BASE, Accept, Answer, Cancel, Command, Fail, Send
from parity.serving.core import Core
from parity.serving.encoding import INLINE, Later, LaterCode, Payload, encoding_time
from parity.serving.model_code import ModelCode
from parity.serving.policy import Policy
from parity.serving.pools import WorkerPool, WorkerState
from parity.serving.replies import Reply, Unanswered
from parity.serving.statistics import Statistics

_log = logging.getLogger(__name__)

_LOOK_EVERY = 0.05  # seconds between two looks at workers that are not warm yet
_BLANK = -1  # the task that asks for the blank's prediction; the core counts its own from 0
_NO_GROUP = -1
_ENCODERS = 2  # threads; queries of one service are encoded for parity only, 1 / k as often as they arrive


class Generation:
    """Carries out, in an event loop and over a pool, what a core commands.

    A core, its code and its workers are of one version, so that all outputs of a coding group are: a service that
    changes its version has two generations for a while.

    Args:
        coded_model: the code, whose networks the pool runs.
        policy: times, budgets and bounds.
        pool: the workers.
        default: the prediction (*P) for queries that get no other and accept it.
        statistics: where to count.
        inline: seconds that an encoder may take in the event loop.

    Raises:
        ParityError: the policy does not suit the code, or the default is of another shape than predictions.
    """

    def __init__(
        self,
        coded_model: CodedModel,
        policy: Policy,
        pool: WorkerPool[Tensor, Tensor],
        default: Tensor | None = None,
        statistics: Statistics | None = None,
        inline: float = INLINE,
    ) -> None:
        self.query_shape = coded_model.encoder.query_shape
        self.prediction_shape = tuple(coded_model.decoder.prediction_shape)
        if default is not None and tuple(default.shape) != self.prediction_shape:
            raise ParityError(f"the default is a prediction {self.prediction_shape}, not {tuple(default.shape)}.")
        self.pool = pool
        self._policy, self._default, self._statistics = policy, default, statistics
        self._code = ModelCode(coded_model)
        self._inline = inline
        Core(policy, self._code)  # raises now what it would raise at the start
        self._core: Core[Payload, Tensor] | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._numbers = itertools.count()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._encoding: set[int] = set()
        self._owns_pool = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._blank: asyncio.Future[Tensor | None] | None = None

    @property
    def query_type(self) -> torch.dtype:
        """The type of queries: the blank's, with which they are encoded."""
        return self._code.blank.dtype

    @property
    def waiting(self) -> int:
        """Queries that wait for an answer."""
        return len(self._replies)

    async def start(self) -> None:
        """Start the workers; return when each has answered its warm-up query and the blank's prediction is known.

        Raises:
            ParityError: no worker of a pool can start, or none of the base pool answers.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self.pool.start, _LoopListener(self, self._loop))  # another version may be serving
        except ParityError:
            self._owns_pool = False  # it serves another
            raise
        while not self._is_warm():
            await asyncio.sleep(_LOOK_EVERY)
        blank = await self._ask_blank()
        code = await asyncio.to_thread(self._timed_code)
        self._core = Core(self._policy, code, blank, self._default, self._statistics)

    async def ask(self, query: Tensor, deadline: float | None, accept: Accept) -> Reply:
        """Return the prediction for a query (*Q); if the caller is cancelled, the query is dropped.

        Raises:
            ParityError: there is no answer of the kind that it accepts.
            Unanswered: refused, late, or lost.
        """
        assert self._loop is not None
        assert self._core is not None
        number = next(self._numbers)
        reply = self._replies[number] = self._loop.create_future()
        try:
            self._carry_out(self._core.arrive(self._loop.time(), number, query, deadline, accept))
            return await reply
        finally:
            if self._replies.pop(number, None) is not None:
                self._carry_out(self._core.drop(self._loop.time(), number))

    async def close(self, timeout: float) -> bool:
        """Answer the queries that wait, and end the workers; return whether all ended within so many seconds."""
        if self._replies:
            await asyncio.wait(list(self._replies.values()))
        if self._timer is not None:
            self._timer.cancel()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        return await asyncio.to_thread(self.pool.drain, timeout) if self._owns_pool else True

    def _is_warm(self) -> bool:
        """Return whether every worker has answered its warm-up query.

        Raises:
            ParityError: no worker of a pool can start.
        """
        workers = self.pool.health()
        for pool in {worker.pool for worker in workers}:
            states = {worker.state for worker in workers if worker.pool == pool}
            if states == {WorkerState.DEAD}:
                error = next(worker.error for worker in workers if worker.pool == pool)
                what = "the base model" if pool == BASE else f"parity model {pool - 1}"
                raise ParityError(f"no worker of {what} can start: {error}.")
        return not any(worker.state in (WorkerState.STARTING, WorkerState.DEAD) for worker in workers)

    async def _ask_blank(self) -> Tensor:
        assert self._loop is not None
        for attempt in range(1 + self._policy.retries):
            self._blank = self._loop.create_future()
            self.pool.submit(_BLANK - attempt, BASE, self._code.blank, _NO_GROUP)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.deadline):
                    if (prediction := await self._blank) is not None:
                        return prediction
        raise ParityError("no worker of the base model answers a query of zeros: look at the workers' log.")

    def _timed_code(self) -> Code[Payload, Tensor]:
        code: Code[Payload, Tensor] = self._code  # type: ignore[assignment]  # of payloads that are all tensors
        if encoding_time(self._code) > self._inline:
            self._executor = ThreadPoolExecutor(_ENCODERS, thread_name_prefix="parity-encoder")
            code = LaterCode(self._code, self._executor)
        return code

    def hear(self, task: int, output: Tensor | None) -> None:
        """A worker answered, or with None failed."""
        assert self._loop is not None
        if task <= _BLANK:
            if self._blank is not None and not self._blank.done():
                self._blank.set_result(output)
        elif self._core is not None:
            now = self._loop.time()
            self._carry_out(self._core.failed(now, task) if output is None else self._core.done(now, task, output))

    def _tick(self) -> None:
        assert self._loop is not None
        assert self._core is not None
        self._timer = None
        self._carry_out(self._core.tick(self._loop.time()))

    def _carry_out(self, commands: Sequence[Command[Payload, Tensor]]) -> None:
        for command in commands:
            match command:
                case Send():
                    self._send(command)
                case Cancel(task):
                    self._encoding.discard(task)
                    self.pool.abandon(task)
                case Answer(query, value, source):
                    self._reply(query, Reply(value, source))
                case Fail(query, reason):
                    self._reply(query, Unanswered(reason))
        self._set_timer()

    def _send(self, send: Send[Payload]) -> None:
        """Queue a task, once its payload is encoded."""
        if isinstance(send.payload, Later):
            assert self._loop is not None
            loop = self._loop
            self._encoding.add(send.task)
            send.payload.coded.add_done_callback(lambda _: _call_soon(loop, self._send_encoded, send))
        else:
            self.pool.submit(send.task, send.pool, send.payload, send.group)

    def _send_encoded(self, send: Send[Later]) -> None:
        if send.task not in self._encoding:
            return  # cancelled meanwhile
        self._encoding.remove(send.task)
        try:
            payload = send.payload.get()
        except Exception:
            _log.exception("a group cannot be encoded")
            self.hear(send.task, None)
        else:
            self.pool.submit(send.task, send.pool, payload, send.group)

    def _reply(self, query: Hashable, end: Reply | Unanswered) -> None:
        assert isinstance(query, int)
        reply = self._replies.pop(query, None)
        if reply is None or reply.done():
            return  # cancelled, and not dropped yet
        if isinstance(end, Unanswered):
            reply.set_exception(end)
        else:
            reply.set_result(end)

    def _set_timer(self) -> None:
        """Wake up at the core's next tick, and at no other time."""
        assert self._loop is not None
        at = None if self._core is None else self._core.next_tick()
        if self._timer is not None and self._timer.when() == at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._tick)


class _LoopListener:
    """Passes on, into the event loop, what a pool reports from its threads."""

    def __init__(self, generation: Generation, loop: asyncio.AbstractEventLoop) -> None:
        self._generation, self._loop = generation, loop

    def done(self, task: int, output: Tensor) -> None:
        _call_soon(self._loop, self._generation.hear, task, output)

    def failed(self, task: int, error: BaseException) -> None:
        _log.warning("task %d failed: %s: %s", task, type(error).__name__, error)
        _call_soon(self._loop, self._generation.hear, task, None)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(call, *arguments)
