"""The server over threads: a coded model that answers although a worker stalls, and bad input that harms nobody."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import torch
from torch import Tensor, nn

from parity.coded_model import CodedModel
from parity.coders import BerrutDecoder, BerrutEncoder, LinearDecoder, LinearEncoder
from parity.errors import ParityError
from parity.serving import Accept, CodedServer, Policy, Reason, Source, Supervision, Unanswered, Unavailable, make_pool
from parity.serving.pools import Listener, Pool, WorkerHealth, WorkerState

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


def threads(model: CodedModel, workers: int) -> Pool[Tensor, Tensor]:
    """Return workers that are not replaced when they stall, however slow the machine."""
    return make_pool("threads", model, workers, supervision=Supervision(silent_after=SOON))


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test; one that hangs fails."""
    asyncio.run(asyncio.wait_for(test(), SOON))


class ByHand:
    """A pool whose tasks a test answers itself, but for the one that every server begins with."""

    def __init__(self, model: CodedModel) -> None:
        self.networks = [model.base_model, *model.parity_models]
        self.tasks: dict[int, tuple[int, Tensor]] = {}
        self.groups: dict[int, int] = {}
        self.abandoned: list[int] = []
        self.states = [WorkerState.IDLE]
        self.failing = 0
        self.drained = False

    def start(self, listener: Listener[Tensor]) -> None:
        self.listener = listener

    def submit(self, task: int, pool: int, payload: Tensor, group: int) -> None:
        self.tasks[task], self.groups[task] = (pool, payload), group
        if task < 0 and self.failing:
            self.failing -= 1
            self.listener.failed(task, RuntimeError("on purpose"))
        elif task < 0:
            self.answer(task)
            del self.tasks[task]

    def abandon(self, task: int) -> None:
        self.abandoned.append(task)

    def health(self) -> list[WorkerHealth]:
        return [WorkerHealth(0, 0, None, state, error="no memory") for state in self.states]

    def queued(self) -> list[int]:
        return [0, 0]

    def drain(self, timeout: float) -> bool:
        self.drained = True
        return True

    @torch.inference_mode()
    def answer(self, task: int) -> None:
        pool, payload = self.tasks[task]
        self.listener.done(task, self.networks[pool](payload[None])[0])


def test_stalled_base_workers_queries_are_rebuilt_as_the_base_model_would_have_answered() -> None:
    async def test() -> None:
        model = coded_model(k=2, r=2)
        pool = threads(model, 1)
        async with CodedServer(model, Policy(deadline=SOON), pool) as server:
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
            while len(pool.tasks) < 2:  # its own, which stalls, and the parity query
                await asyncio.sleep(0.001)
            pool.answer(1)
            reply = await asked
        torch.testing.assert_close(reply.prediction, model.base_model(query))
        assert reply.source is Source.REBUILT
        assert pool.abandoned == [0]

    run(test)


def test_a_code_that_is_not_systematic_serves() -> None:
    async def test() -> None:
        base = nn.Linear(3, 2)
        model = CodedModel(base, BerrutEncoder(2, 1, QUERY), [], BerrutDecoder(2, 1, PREDICTION))
        async with CodedServer(model, Policy(group_timeout=SOON, patience=SOON), threads(model, 3)) as server:
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
        async with CodedServer(model, Policy(group_timeout=SOON), threads(model, 2)) as server:
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
            await asyncio.sleep(0)
            assert server.waiting == 1
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


def test_the_worst_source_that_is_accepted_may_be_given_by_its_name_and_no_other_name() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        async with CodedServer(model, Policy(), pool, torch.zeros(2)) as server:
            asked = server.ask(torch.randn(3), deadline=0.01, accept="own")  # type: ignore[arg-type]
            with pytest.raises(Unanswered, match="within the deadline"):
                await asked
            with pytest.raises(ParityError, match="accept is one of own, rebuilt, default, not 'nonsense'"):
                await server.ask(torch.randn(3), accept="nonsense")  # type: ignore[arg-type]
            asked = server.ask(torch.randn(3), deadline=0.01, accept="default")  # type: ignore[arg-type]
            assert (await asked).source is Source.DEFAULT

    run(test)


def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    async def test() -> None:
        model = coded_model()
        server = CodedServer(model, Policy(), threads(model, 2))
        await server.start()
        asked = [asyncio.create_task(server.ask(torch.randn(3))) for _ in range(5)]
        await asyncio.sleep(0)
        assert await server.close(SOON)
        assert all(task.done() for task in asked)
        assert [task.result().source for task in asked]
        with pytest.raises(ParityError, match="closed"):
            await server.ask(torch.randn(3))

    run(test)


def test_a_server_takes_queries_only_after_every_worker_is_warm() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        pool.states = [WorkerState.IDLE, WorkerState.STARTING]
        server = CodedServer(model, Policy(), pool)
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0.2)
        with pytest.raises(Unavailable, match="1 of 2 workers are warm"):
            await server.ask(torch.randn(3))
        assert not pool.groups
        pool.states = [WorkerState.IDLE, WorkerState.IDLE]
        await starting
        assert server.problem() is None
        await server.close()

    run(test)


def test_a_server_whose_workers_cannot_start_gives_up_with_their_error() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        pool.states = [WorkerState.DEAD, WorkerState.DEAD]
        with pytest.raises(ParityError, match="no worker of the base model can start: no memory"):
            await CodedServer(model, Policy(), pool).start()
        assert pool.drained

    run(test)


def test_a_server_that_is_started_again_or_whose_pool_another_one_is_given_serves_on() -> None:
    async def test() -> None:
        model = coded_model()
        pool = threads(model, 1)
        async with CodedServer(model, Policy(deadline=SOON), pool) as server:
            with pytest.raises(ParityError, match="has been started before"):
                await server.start()
            with pytest.raises(ParityError, match="serves already"):
                await CodedServer(model, Policy(), pool).start()
            assert (await server.ask(torch.randn(3))).source is Source.OWN

    run(test)


def test_a_worker_that_dies_with_the_first_query_is_not_the_end_but_two_are() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        pool.failing = 1
        async with CodedServer(model, Policy(retries=1), pool) as server:
            assert server.problem() is None
        pool = ByHand(model)
        pool.failing = 2
        with pytest.raises(ParityError, match="a query of zeros"):
            await CodedServer(model, Policy(retries=1), pool).start()

    run(test)


def test_a_server_is_not_ready_while_all_base_workers_are_dead_but_takes_what_may_still_be_answered() -> None:
    async def test() -> None:
        model = coded_model()
        pool = ByHand(model)
        async with CodedServer(model, Policy(), pool) as server:
            pool.states = [WorkerState.DEAD, WorkerState.STARTING]
            assert "dead" in str(server.problem())
            assert server.refusal() is None

    run(test)


def test_a_default_is_for_those_who_accept_it() -> None:
    async def test() -> None:
        model = coded_model()
        async with CodedServer(model, Policy(deadline=0.01), ByHand(model), torch.zeros(2)) as server:
            with pytest.raises(Unanswered):
                await server.ask(torch.randn(3), accept=Accept.REBUILT)
            assert (await server.ask(torch.randn(3), accept=Accept.DEFAULT)).source is Source.DEFAULT
            assert server.statistics.latencies[Source.DEFAULT].total == 1
            assert server.statistics.failures[Reason.LATE] == 1

    run(test)


@pytest.mark.parametrize("inline", [0.0, SOON])
def test_a_slow_encoder_runs_in_a_thread_and_nothing_else_changes(inline: float) -> None:
    class Watched(LinearEncoder):
        def forward(self, queries: Tensor) -> Tensor:
            encoded_in.append(threading.current_thread())
            return super().forward(queries)

    encoded_in: list[threading.Thread] = []

    async def test() -> None:
        model = coded_model(k=2, r=2)
        model.encoder = Watched(2, 2, QUERY)
        pool = threads(model, 1)
        async with CodedServer(model, Policy(deadline=SOON), pool, inline=inline) as server:
            encoded_in.clear()
            pool.faults.stall(0)
            queries = torch.randn(6, 3)
            replies = await asyncio.gather(*(server.ask(query) for query in queries))
            pool.faults.release(0)
        expected = model.base_model(queries)
        torch.testing.assert_close(torch.stack([reply.prediction for reply in replies]), expected)
        assert len(encoded_in) == 3
        assert all((thread is threading.main_thread()) == (inline > 0) for thread in encoded_in)

    run(test)


def test_a_group_that_cannot_be_encoded_loses_its_parity_queries_and_nothing_else() -> None:
    class Broken(LinearEncoder):
        def forward(self, queries: Tensor) -> Tensor:
            if queries.abs().sum() > 0:
                raise RuntimeError("on purpose")
            return super().forward(queries)

    async def test() -> None:
        model = coded_model()
        model.encoder = Broken(2, 1, QUERY)
        async with CodedServer(model, Policy(), threads(model, 2), inline=0.0) as server:
            replies = await asyncio.gather(*(server.ask(torch.randn(3)) for _ in range(2)))
            assert [reply.source for reply in replies] == [Source.OWN, Source.OWN]

    run(test)


@pytest.mark.parametrize("systematic", [True, False])
def test_a_group_that_cannot_be_encoded_within_the_event_loop_harms_no_other_and_leaves_nothing(
    systematic: bool,
) -> None:
    kind = LinearEncoder if systematic else BerrutEncoder

    class Broken(kind):  # type: ignore[misc,valid-type]
        def forward(self, queries: Tensor) -> Tensor:
            if queries.abs().max() > 100:
                raise RuntimeError("on purpose")
            return super().forward(queries)

    async def test() -> None:
        if systematic:
            model = coded_model()
            model.encoder = Broken(2, 1, QUERY)
        else:
            model = CodedModel(nn.Linear(3, 2), Broken(2, 1, QUERY), [], BerrutDecoder(2, 1, PREDICTION))
        policy = Policy(patience=SOON, deadline=SOON)
        async with CodedServer(model, policy, threads(model, 3), inline=SOON) as server:
            asked = [asyncio.create_task(server.ask(torch.full((3,), size))) for size in (1000.0, 1.0, 1.0, 1.0)]
            replies = await asyncio.gather(*asked, return_exceptions=True)
            assert server.waiting == 0
        if systematic:
            assert [reply.source for reply in replies] == [Source.OWN] * 4
        else:
            assert [getattr(reply, "reason", None) for reply in replies] == [Reason.LOST, Reason.LOST, None, None]

    run(test)


def test_a_query_of_another_floating_point_type_is_answered_and_so_is_the_other_one_of_its_group() -> None:
    async def test() -> None:
        model = coded_model()
        pool = threads(model, 1)
        async with CodedServer(model, Policy(group_timeout=SOON, deadline=SOON), pool) as server:
            pool.faults.stall(0)
            queries = torch.randn(2, 3)
            asked = [server.ask(queries[0].double()), server.ask(queries[1])]
            first, second = [asyncio.create_task(each) for each in asked]
            await asyncio.sleep(0.1)
            pool.faults.release(0)
            replies = [await first, await second]
            with pytest.raises(ParityError, match="NaN or infinity"):
                await server.ask(torch.full((3,), 1e300, dtype=torch.float64))
            assert server.waiting == 0
        expected = model.base_model(queries)
        torch.testing.assert_close(torch.stack([reply.prediction for reply in replies]), expected)

    run(test)


def test_no_group_is_of_two_versions_when_one_is_replaced_under_load() -> None:
    """Rebuilt of one old and one new output, a prediction would be neither version's."""

    async def test() -> None:
        old, new = coded_model(r=2), coded_model(r=2)
        queries = torch.randn(40, 3)
        expected = [[*version.base_model(queries)] for version in (old, new)]
        pool = threads(old, 1)
        async with CodedServer(old, Policy(group_timeout=0.02, deadline=SOON), pool) as server:
            pool.faults.stall(0)  # everything of the old version is rebuilt, with blanks at its end
            before = [asyncio.create_task(server.ask(query)) for query in queries[:21:2]]
            await asyncio.sleep(0)
            replacing = asyncio.create_task(server.replace(new, threads(new, 2)))
            while not replacing.done():
                await asyncio.sleep(0.005)
            after = [asyncio.create_task(server.ask(query)) for query in queries]
            replies = [await task for task in (*before, *after)]
            pool.faults.release(0)
        for reply, wanted in zip(replies, [*expected[0][:21:2], *expected[1]], strict=True):
            torch.testing.assert_close(reply.prediction, wanted)
        assert {reply.source for reply in replies[:11]} == {Source.REBUILT}

    run(test)


def test_a_version_that_cannot_start_or_takes_other_queries_leaves_the_old_one_serving() -> None:
    async def test() -> None:
        model = coded_model()
        async with CodedServer(model, Policy(), threads(model, 1)) as server:
            broken = ByHand(model)
            broken.states = [WorkerState.DEAD]
            with pytest.raises(ParityError, match="can start"):
                await server.replace(model, broken)
            assert broken.drained
            other = CodedModel(nn.Linear(4, 2), LinearEncoder(2, 1, (4,)), [nn.Linear(4, 2)], model.decoder)
            unused = ByHand(other)
            with pytest.raises(ParityError, match="queries of shape"):
                await server.replace(other, unused)
            assert unused.drained
            base = nn.Linear(3, 5)
            other = CodedModel(base, LinearEncoder(2, 1, QUERY), [base], LinearDecoder(2, 1, (5,)))
            unused = ByHand(other)
            with pytest.raises(ParityError, match=r"predictions are of shape \(5,\), and this service's of \(2,\)"):
                await server.replace(other, unused)
            assert unused.drained
            with pytest.raises(ParityError, match=r"default is a prediction \(2,\), not \(5,\)"):
                await server.replace(model, ByHand(model), default=torch.zeros(5))
            with pytest.raises(ParityError, match="serves already"):
                await server.replace(model, server._now.pool)
            assert (await server.ask(torch.randn(3))).source is Source.OWN

    run(test)


def test_a_version_that_does_not_suit_the_policy_has_its_workers_ended() -> None:
    async def test() -> None:
        model = coded_model()
        async with CodedServer(model, Policy(hedge_delay=SOON), ByHand(model)) as server:
            other = CodedModel(nn.Linear(3, 2), BerrutEncoder(2, 1, QUERY), [], BerrutDecoder(2, 1, PREDICTION))
            unused = ByHand(other)
            with pytest.raises(ParityError, match="cannot be hedged"):
                await server.replace(other, unused)
            assert unused.drained

    run(test)


def test_closing_in_the_middle_of_a_replacement_answers_what_both_versions_accepted() -> None:
    async def test() -> None:
        model, pool = coded_model(), ByHand(coded_model())
        server = CodedServer(model, Policy(), pool)
        await server.start()
        old = asyncio.create_task(server.ask(torch.randn(3)))
        await asyncio.sleep(0)
        await server.replace(model, threads(model, 1))
        new = asyncio.create_task(server.ask(torch.randn(3)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(server.close())
        await new
        assert not closing.done()
        pool.answer(0)
        assert await closing
        assert (old.result().source, pool.drained) == (Source.OWN, True)

    run(test)


def test_a_replacement_that_is_given_up_leaves_an_older_version_to_retire() -> None:
    async def test() -> None:
        model = coded_model()
        oldest, unused = ByHand(model), ByHand(model)
        server = CodedServer(model, Policy(), oldest)
        await server.start()
        first = asyncio.create_task(server.ask(torch.randn(3)))
        await asyncio.sleep(0)
        await server.replace(model, ByHand(model))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.replace(model, unused), 0.1)
        assert unused.drained
        oldest.answer(0)
        assert (await first).source is Source.OWN
        assert await server.close()
        assert oldest.drained
        assert not server._retiring

    run(test)


def test_a_group_that_nobody_waits_for_by_the_time_it_is_encoded_is_not_sent() -> None:
    class Held(LinearEncoder):
        def forward(self, queries: Tensor) -> Tensor:
            if queries.abs().sum() > 0:
                begun.set()
                released.wait(SOON)
            parity_queries = super().forward(queries)
            if begun.is_set():
                encoded.set()
            return parity_queries

    begun, released, encoded = threading.Event(), threading.Event(), threading.Event()

    async def test() -> None:
        model = coded_model()
        model.encoder = Held(2, 1, QUERY)
        pool = ByHand(model)
        async with CodedServer(model, Policy(), pool, inline=0.0) as server:
            asked = [asyncio.create_task(server.ask(torch.randn(3))) for _ in range(2)]
            await asyncio.to_thread(begun.wait, SOON)
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
            released.set()
            await asyncio.to_thread(encoded.wait, SOON)
            await asyncio.sleep(0.05)  # were it sent, it would be by then
            assert sorted(pool.tasks) == [0, 1]

    run(test)
