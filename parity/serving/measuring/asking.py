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

_MOST = 2**31 - 1  # what all forms of bodies carry exactly

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


def random_queries(
    shape: Sequence[int], number: int = 64, seed: int = 0, below: tuple[int, int] | None = None
) -> Tensor:
    """Return queries of normal random numbers, or of whole ones from a first to below a last, (N, *Q)."""
    chance = torch.Generator().manual_seed(seed)
    if below is None:
        return torch.randn(number, *shape, generator=chance)
    return torch.randint(*below, (number, *shape), generator=chance)


async def whole_numbers(url: str, timeout: float) -> tuple[int, int] | None:
    """Return the first whole number that a service's queries may have, and the first above that they may not have.

    Returns:
        None where they are not whole, or where nothing is known: asking will show why.

    Raises:
        ParityError: aiohttp is not installed.
    """
    try:
        import aiohttp
    except ImportError:
        raise ParityError("asking over HTTP needs aiohttp: pip install 'parity[serve]'.") from None

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as client,
            client.get(f"{url.rstrip('/')}/version") as response,
        ):
            query = json.loads(await response.read())["query"]
        if query["ids_below"] is not None:
            return 0, int(query["ids_below"])
        limits = torch.iinfo(getattr(torch, query["dtype"]))
    except (TimeoutError, aiohttp.ClientError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return max(limits.min, -_MOST), min(limits.max, _MOST) + 1
