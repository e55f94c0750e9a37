"""Ways to ask a service: in this process, or over HTTP."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import torch
from torch import Tensor

from parity.errors import ParityError, cause
from parity.serving import CodedServer, Reply, Source, Unanswered
from parity.serving.measuring.open_loop import Ask, NotAnswered

Heard = Callable[[int, Reply], None]
"""Hears of each answer, with the number of its query."""


def in_process(server: CodedServer, queries: Sequence[Tensor] | Tensor, heard: Heard | None = None) -> Ask:
    """Return what asks a server in this event loop.

    Args:
        server: which is started.
        queries: (N, *Q); asked in order, again and again.
        heard: hears of each answer.
    """

    async def ask(number: int) -> str:
        try:
            reply = await server.ask(queries[number % len(queries)])
        except Unanswered as why:
            raise NotAnswered(why.reason.value) from why
        if heard is not None:
            heard(number, reply)
        return reply.source.value

    return ask


@asynccontextmanager
async def over_http(
    url: str, queries: Tensor, connections: int, timeout: float, transport: Any = None
) -> AsyncIterator[Ask]:
    """Yield what asks a service at a URL.

    A query that finds all connections in use waits for one, and that counts as latency.

    Args:
        url: of the service, e.g. http://127.0.0.1:8000.
        queries: (N, *Q); asked in order, again and again.
        connections: at most so many at a time, kept alive between queries.
        timeout: seconds after which a query is given up.
        transport: of httpx, in place of the network.

    Raises:
        ParityError: httpx is not installed.
    """
    try:
        import httpx
    except ImportError:
        raise ParityError("asking over HTTP needs httpx: pip install httpx.") from None

    sources = {source.value for source in Source}
    bodies = [{"query": query.tolist()} for query in queries]
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    client = httpx.AsyncClient(limits=limits, timeout=timeout, transport=transport, trust_env=False)

    async def ask(number: int) -> str:
        try:
            response = await client.post(f"{url.rstrip('/')}/predict", json=bodies[number % len(bodies)])
        except httpx.TimeoutException as why:
            raise NotAnswered("timeout") from why
        except httpx.ConnectError as why:
            raise ParityError(f"there is no service at {url}: {cause(why)}") from why
        except (httpx.TransportError, httpx.InvalidURL) as why:
            raise NotAnswered(type(why).__name__) from why
        if response.status_code in (400, 404, 405, 413, 415, 422):
            raise ParityError(f"{url} refuses the query with {response.status_code}: {_sentence(response)}")
        if response.status_code != 200:
            raise NotAnswered(f"status {response.status_code}")
        source = response.json().get("source")
        if source not in sources:
            raise ParityError(f"{url} is not a service of parity: its answers have no source.")
        return str(source)

    async with client:
        yield ask


def _sentence(response: Any) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return "it is not a service of parity."


def random_queries(shape: Sequence[int], number: int = 64, seed: int = 0) -> Tensor:
    """Return queries of normal random numbers, (N, *Q)."""
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(seed))
