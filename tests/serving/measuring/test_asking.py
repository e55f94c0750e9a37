"""Asking over HTTP: what counts as an answer, what as none, and what ends the load."""

import json
from collections.abc import Callable

import httpx
import pytest
import torch

from parity.errors import ParityError
from parity.serving.measuring.asking import over_http
from parity.serving.measuring.open_loop import NotAnswered
from tests.serving.measuring.virtual_clock import run

Respond = Callable[[httpx.Request], httpx.Response]


def asked(respond: Respond, number: int = 0) -> str:
    """Ask a service that responds so."""

    async def main() -> str:
        queries = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        async with over_http("http://service:1/", queries, 4, 1.0, httpx.MockTransport(respond)) as ask:
            return await ask(number)

    return run(main())


def test_queries_are_asked_in_turn_and_the_source_is_returned() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://service:1/predict"
        assert json.loads(request.content)["query"] == [3.0, 4.0]
        return httpx.Response(200, json={"prediction": [1.0], "source": "rebuilt"})

    assert asked(respond, number=5) == "rebuilt"


@pytest.mark.parametrize("status", [503, 504, 502, 500])
def test_a_service_that_cannot_answer_now_is_counted_by_its_status(status: int) -> None:
    with pytest.raises(NotAnswered, match=f"status {status}"):
        asked(lambda request: httpx.Response(status))


def test_a_query_that_takes_too_long_is_counted() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("too long", request=request)

    with pytest.raises(NotAnswered, match="timeout"):
        asked(respond)


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (httpx.Response(422, json={"error": "a query has shape (1, 28, 28)."}), "shape \\(1, 28, 28\\)"),
        (httpx.Response(404, text="nothing here"), "not a service of parity"),
        (httpx.Response(200, json={"prediction": [1.0]}), "not a service of parity"),
    ],
)
def test_what_every_query_would_get_ends_the_load(response: httpx.Response, problem: str) -> None:
    with pytest.raises(ParityError, match=problem):
        asked(lambda request: response)


def test_nobody_at_the_address_ends_the_load() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ParityError, match="there is no service at http://service:1"):
        asked(respond)
