"""Ways to ask a service: in this process, or over HTTP."""

import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np
import safetensors.torch
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
    url: str, queries: Tensor, connections: int, timeout: float, body: str = "json"
) -> AsyncIterator[Ask]:
    """Yield what asks a service at a URL.

    A query that finds all connections in use waits for one, and that counts as latency.

    Args:
        url: of the service, e.g. http://127.0.0.1:8000.
        queries: (N, *Q); asked in order, again and again.
        connections: at most so many at a time, kept alive between queries.
        timeout: seconds after which a query is given up.
        body: one of ``BODIES``; predictions are asked for in the same form.

    Raises:
        ParityError: aiohttp is not installed.
    """
    try:
        import aiohttp
    except ImportError:
        raise ParityError("asking over HTTP needs aiohttp: pip install 'parity[serve]'.") from None

    bodies = [BODIES[body](query) for query in queries]
    kind = CONTENT_TYPES[body]
    client = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=timeout),
        headers={"Content-Type": kind, "Accept": kind},
    )

    async def ask(number: int) -> str:
        try:
            data = bodies[number % len(bodies)]
            async with client.post(f"{url.rstrip('/')}/predict", data=data) as response:
                return _source(url, response.status, response.headers, await response.read())
        except TimeoutError as why:
            raise NotAnswered("timeout") from why
        except aiohttp.ClientConnectorError as why:
            raise ParityError(f"there is no service at {url}: {cause(why)}") from why
        except (aiohttp.ClientError, ValueError) as why:
            raise NotAnswered(type(why).__name__) from why

    async with client:
        yield ask


def _json(query: Tensor) -> bytes:
    return json.dumps({"query": query.tolist()}).encode()


def _npy(query: Tensor) -> bytes:
    stream = io.BytesIO()
    np.save(stream, query.numpy(), allow_pickle=False)
    return stream.getvalue()


BODIES: dict[str, Callable[[Tensor], bytes]] = {
    "json": _json,
    "npy": _npy,
    "safetensors": lambda query: safetensors.torch.save({"query": query.contiguous()}),
}
"""What makes a request's body of a query (*Q), by the name of the form."""

CONTENT_TYPES = {
    "json": "application/json",
    "npy": "application/x-npy",
    "safetensors": "application/x-safetensors",
}


def _source(url: str, status: int, headers: Mapping[str, str], content: bytes) -> str:
    """Return the source of an answer.

    Raises:
        NotAnswered: it is none.
        ParityError: every query would get it.
    """
    if status in (400, 404, 405, 413, 415, 422):
        raise ParityError(f"{url} refuses the query with {status}: {_field(content, 'error', _ANOTHER)}")
    if status != 200:
        raise NotAnswered(f"status {status}")
    source = headers.get("X-Source") or _field(content, "source", "")
    if source not in list(Source):
        raise ParityError(f"{url} is not a service of parity: its answers have no source.")
    return source


_ANOTHER = "it is not a service of parity."


def _field(content: bytes, name: str, otherwise: str) -> str:
    try:
        return str(json.loads(content)[name])
    except (ValueError, KeyError, TypeError):
        return otherwise


def random_queries(shape: Sequence[int], number: int = 64, seed: int = 0) -> Tensor:
    """Return queries of normal random numbers, (N, *Q)."""
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(seed))
