"""The server over threads: a coded model that answers although a worker stalls, and bad input that harms nobody."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.serving import CodedServer, Policy, Reason, Source, Supervision, Unanswered, make_pool
from parity.serving.pools import Listener

QUERY, PREDICTION = (3,), (2,)
SOON = 60.0


def coded_model(k: int = 2, r: int = 1) -> CodedModel:
    """Return a linear code that is exact: the networks are linear, and zeros are not answered with zeros."""
    base = nn.Linear(3, 2)
    parity_models = [nn.Linear(3, 2) for _ in range(r)]
    encoder = LinearEncoder(k, r, QUERY)
    for model, shares in zip(parity_models, encoder.coefficients, strict=True):
        model.load_state_dict({"weight": base.weight, "bias": base.bias * shares.sum()})
    return CodedModel(base, encoder, parity_models, LinearDecoder(k, r, PREDICTION))


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test; one that hangs fails."""
    asyncio.run(asyncio.wait_for(test(), SOON))


class ByHand:
    """A pool whose tasks a test answers itself."""

    def __init__(self, model: CodedModel) -> None:
        self.networks = [model.base_model, *model.parity_models]
        self.tasks: dict[int, tuple[int, Tensor]] = {}
        self.abandoned: list[int] = []

    def start(self, listener: Listener[Tensor]) -> None:
        self.listener = listener

    def submit(self, task: int, pool: int, payload: Tensor, group: int) -> None:
        self.tasks[task] = pool, payload

    def abandon(self, task: int) -> None:
        self.abandoned.append(task)

    def health(self) -> list:
        return []

    def drain(self, timeout: float) -> bool:
        return True

    @torch.inference_mode()
    def answer(self, task: int) -> None:
        pool, payload = self.tasks[task]
        self.listener.done(task, self.networks[pool](payload[None])[0])


def test_stalled_base_workers_queries_are_rebuilt_as_the_base_model_would_have_answered() -> None:
    async def test() -> None:
        model = coded_model(k=2, r=2)
        pool = make_pool("threads", model, 1, supervision=Supervision(silent_after=SOON))
        async with CodedServer(model, Policy(deadline=SOON), pool) as server:
            await server.ask(torch.randn(3))
            pool.faults.stall(0)
            queries = torch.randn(8, 3)
            replies = await asyncio.gather(*(server.ask(query) for query in queries))
            pool.faults.release(0)
        expected = model.base_model(queries)
        torch.testing.assert_close(torch.stack([reply.prediction for reply in replies]), expected)
        assert {reply.source for reply in replies} == {Source.REBUILT}

    run(test)


def test_a_lone_query_of_a_stalled_worker_is_rebuilt_with_blanks() -> None:
    async def test() -> None:
        model = coded_model(k=3)
        pool = ByHand(model)
        async with CodedServer(model, Policy(group_timeout=0.01), pool) as server:
            asked = asyncio.create_task(server.ask(query := torch.randn(3)))
            while len(pool.tasks) < 3:  # its own, which stalls, the blank's, the parity query
                await asyncio.sleep(0.001)
            pool.answer(1)
            pool.answer(2)
            reply = await asked
        torch.testing.assert_close(reply.prediction, model.base_model(query))
        assert reply.source is Source.REBUILT
        assert pool.abandoned == [0]

    run(test)


def test_a_code_that_is_not_systematic_serves() -> None:
    async def test() -> None:
        base = nn.Linear(3, 2)
        model = CodedModel(base, BerrutEncoder(2, 1, QUERY), [], BerrutDecoder(2, 1, PREDICTION))
        async with CodedServer(
            model, Policy(group_timeout=SOON, patience=SOON), make_pool("threads", model, 3)
        ) as server:
            queries = torch.randn(2, 3)
            replies = await asyncio.gather(*(server.ask(query) for query in queries))
        with torch.inference_mode():
            expected = model(queries[None], torch.ones(1, 3, dtype=torch.bool))[0]
        torch.testing.assert_close(torch.stack([reply.prediction for reply in replies]), expected)

    run(test)


def test_a_query_that_nobody_answers_fails_at_its_deadline_or_gets_the_default() -> None:
    async def test() -> None:
        model, default = coded_model(), torch.zeros(2)
        async with CodedServer(model, Policy(), ByHand(model)) as server:
            with pytest.raises(Unanswered, match="within the deadline") as late:
                await server.ask(torch.randn(3), deadline=0.01)
            assert late.value.reason is Reason.LATE
        async with CodedServer(model, Policy(deadline=0.01), ByHand(model), default) as server:
            reply = await server.ask(torch.randn(3))
            assert (reply.prediction, reply.source) == (default, Source.DEFAULT)

    run(test)


def test_a_worker_that_raises_loses_its_query_and_no_other() -> None:
    class Sensitive(nn.Module):
        def forward(self, queries: Tensor) -> Tensor:
            if queries.abs().max() > 100:
                raise ValueError("too large")
            return queries[:, :2]

    async def test() -> None:
        model = CodedModel(Sensitive(), LinearEncoder(2, 1, QUERY), [Sensitive()], LinearDecoder(2, 1, PREDICTION))
        async with CodedServer(model, Policy(group_timeout=SOON), make_pool("threads", model, 2)) as server:
            poison, harmless = await asyncio.gather(
                server.ask(torch.full((3,), 1000.0)), server.ask(torch.ones(3)), return_exceptions=True
            )
        assert isinstance(poison, Unanswered)
        assert poison.reason is Reason.LOST
        assert harmless.source is Source.OWN

    run(test)


def test_a_query_beyond_the_most_that_wait_is_refused_at_once() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        async with CodedServer(model, Policy(most_waiting=1), pool) as server:
            waiting = asyncio.create_task(server.ask(torch.randn(3)))
            await asyncio.sleep(0)
            with pytest.raises(Unanswered, match="too many queries"):
                await server.ask(torch.randn(3))
            pool.answer(0)
            assert (await waiting).source is Source.OWN

    run(test)


def test_a_client_that_hangs_up_does_not_harm_its_group() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        async with CodedServer(model, Policy(group_timeout=SOON), pool) as server:
            leaving = asyncio.create_task(server.ask(torch.randn(3)))
            staying = asyncio.create_task(server.ask(query := torch.randn(3)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            leaving.cancel()
            pool.answer(0)
            pool.answer(2)
            reply = await staying
        torch.testing.assert_close(reply.prediction, model.base_model(query))
        assert leaving.cancelled()

    run(test)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (torch.randn(4), "of shape"),
        (torch.ones(3, dtype=torch.int64), "floating-point"),
        (torch.tensor([0.0, torch.nan, 0.0]), "NaN"),
        ([0.0, 0.0, 0.0], "not list"),
    ],
)
def test_a_query_that_is_none_is_refused_before_it_reaches_a_group(query: Tensor, problem: str) -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        async with CodedServer(model, Policy(), pool) as server:
            with pytest.raises(ParityError, match=problem):
                await server.ask(query)
            assert not pool.tasks

    run(test)


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan")])
def test_a_deadline_that_is_none_is_refused(deadline: float) -> None:
    async def test() -> None:
        model = coded_model()
        async with CodedServer(model, Policy(), ByHand(model)) as server:
            with pytest.raises(ParityError, match="deadline"):
                await server.ask(torch.randn(3), deadline=deadline)

    run(test)


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    async def test() -> None:
        model = coded_model()
        server = CodedServer(model, Policy(), make_pool("threads", model, 2))
        asked = [asyncio.create_task(server.ask(torch.randn(3))) for _ in range(5)]
        await asyncio.sleep(0)
        assert await server.close(SOON)
        assert all(task.done() for task in asked)
        assert [task.result().source for task in asked]
        with pytest.raises(ParityError, match="closed"):
            await server.ask(torch.randn(3))

    run(test)
