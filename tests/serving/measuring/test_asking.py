"""Asking over HTTP: what counts as an answer, what as none, and what ends the load."""

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
import torch
from aiohttp import web
from aiohttp.test_utils import TestServer
from safetensors.torch import load as load_safetensors

from parity.errors import ParityError
from parity.serving.measuring.asking import BODIES, CONTENT_TYPES, over_http
from parity.serving.measuring.open_loop import NotAnswered, offer
from parity.serving.measuring.record import Record

Respond = Callable[[web.Request], Awaitable[web.Response]]

QUERIES = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
READ = {
    "json": lambda body: json.loads(body)["query"],
    "npy": lambda body: np.load(io.BytesIO(body), allow_pickle=False).tolist(),
    "safetensors": lambda body: load_safetensors(body)["query"].tolist(),
}


@contextlib.asynccontextmanager
async def served(respond: Respond) -> AsyncIterator[str]:
    """A service that responds so; yields its address."""
    application = web.Application()
    application.router.add_post("/predict", respond)
    async with TestServer(application) as server:
        yield str(server.make_url("/"))


def answer(source: str = "own", **more: object) -> web.Response:
    return web.json_response({"prediction": [1.0], "source": source, **more})


def asked(respond: Respond, number: int = 0, body: str = "json", timeout: float = 60.0) -> str:
    """Ask a service that responds so."""

    async def main() -> str:
        async with served(respond) as url, over_http(url, QUERIES, 4, timeout, body) as ask:
            return await ask(number)

    return asyncio.run(main())


def always(response: web.Response) -> Respond:
    async def respond(request: web.Request) -> web.Response:
        return response

    return respond


@pytest.mark.parametrize("body", BODIES)
def test_queries_are_asked_in_turn_in_each_form_and_the_source_is_returned(body: str) -> None:
    async def respond(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == request.headers["Accept"] == CONTENT_TYPES[body]
        assert READ[body](await request.read()) == [3.0, 4.0]
        return answer("rebuilt") if body == "json" else web.Response(body=b"..", headers={"X-Source": "rebuilt"})

    assert asked(respond, number=5, body=body) == "rebuilt"


def test_latency_counts_from_when_a_query_was_due_while_a_server_stalls() -> None:
    stall, every, queries = 0.5, 0.01, 100

    async def main() -> tuple[Record, int]:
        arrived: list[float] = []

        async def respond(request: web.Request) -> web.Response:
            arrived.append(loop.time())
            await asyncio.sleep(max(0.0, began + stall - loop.time()))  # it stalls at the start
            return answer()

        loop, record = asyncio.get_running_loop(), Record()
        async with served(respond) as url, over_http(url, QUERIES, 8, 60.0) as ask:  # 8 connections: most queries wait
            began = loop.time()
            await offer(ask, [number * every for number in range(queries)], record)
        return record, sum(time < began + stall for time in arrived)

    record, arrived = asyncio.run(main())
    assert record.all.count == queries
    assert arrived <= 8
    # Whoever counts from when it could send sees 8 queries wait. Half of all were due within the stall, and waited for
    # what was left of it: on average half of it, the first one for all of it.
    assert record.all.max >= 0.95 * stall
    assert sum(record.all.percentile(percent) > every for percent in range(50, 100)) >= 45
    assert record.all.percentile(75) >= 0.45 * stall


@pytest.mark.parametrize("status", [503, 504, 502, 500])
def test_a_service_that_cannot_answer_now_is_counted_by_its_status(status: int) -> None:
    with pytest.raises(NotAnswered, match=f"status {status}"):
        asked(always(web.Response(status=status)))


def test_a_query_that_takes_too_long_is_counted() -> None:
    async def respond(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return answer()

    with pytest.raises(NotAnswered, match="timeout"):
        asked(respond, timeout=0.05)


def test_a_connection_that_breaks_is_counted() -> None:
    async def respond(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return answer()

    with pytest.raises(NotAnswered, match=r"Disconnected|ClientOSError"):
        asked(respond)


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (dict(status=422, text='{"error": "a query has shape (1, 28, 28)."}'), "shape \\(1, 28, 28\\)"),
        (dict(status=404, text="nothing here"), "not a service of parity"),
        (dict(status=200, text='{"prediction": [1.0]}'), "not a service of parity"),
    ],
)
def test_what_every_query_would_get_ends_the_load(response: dict[str, object], problem: str) -> None:
    with pytest.raises(ParityError, match=problem):
        asked(always(web.Response(**response)))  # type: ignore[arg-type]


def test_nobody_at_the_address_ends_the_load() -> None:
    async def main(port: int) -> str:
        async with over_http(f"http://127.0.0.1:{port}", QUERIES, 4, 60.0) as ask:
            return await ask(0)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ParityError, match=f"there is no service at http://127.0.0.1:{port}"):
        asyncio.run(main(port))
