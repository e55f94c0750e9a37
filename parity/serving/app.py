"""The service over HTTP, as an ASGI application."""

import asyncio
import math
import re
import time
import uuid
from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parity.errors import ParityError
from parity.serving.bodies import JSON, NPY, SAFETENSORS, BadBody, Question, most_bytes, parse, write_tensor
from parity.serving.commands import Accept, Reason
from parity.serving.metrics import registry
from parity.serving.replies import Reply, Unanswered, Unavailable
from parity.serving.service import Service
from parity.versions import code_version

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_STATUS = {Reason.REFUSED: 503, Reason.LATE: 504, Reason.LOST: 502}
_AGAIN = {"Retry-After": "1"}
_CLOSE = {"Connection": "close"}
_MOST_READING = 256  # bodies at a time: clients that send slowly do not take the places of those whose queries wait
_HUNG_UP = 499  # nobody reads it; nginx's number in a log


def make_app(service: Service) -> FastAPI:
    """Return the application; whoever runs it starts the service and closes it.

    Raises:
        ParityError: the policy has no deadline.
    """
    if not math.isfinite(service.server.policy.deadline):
        raise ParityError("a service over HTTP needs a deadline: clients and signals wait for it at most.")
    code = code_version()
    app = FastAPI(
        title=f"parity: {service.servable.name}",
        version=code.get("parity", "0"),
        description="Predictions on time although a worker is slow or dead.",
        exception_handlers={HTTPException: _explain, Exception: _explain_own},
        redirect_slashes=False,
    )
    app.add_middleware(_RequestIds)
    pages = _Pages(service, code)
    app.post("/predict", responses=_RESPONSES, openapi_extra=_request_body(service))(pages.predict)
    for path in ("healthz", "readyz", "version", "metrics"):
        app.get(f"/{path}")(getattr(pages, path))
        app.head(f"/{path}", include_in_schema=False)(getattr(pages, path))
    return app


class _Pages:
    def __init__(self, service: Service, code: dict[str, Any]) -> None:
        self._service, self._code = service, code
        self._registry = registry(service.server)
        self._most_bytes = most_bytes(service.servable.query_shape)
        self._reading = 0  # bodies

    async def predict(self, request: Request) -> Response:
        """Return the prediction for one query, and where it comes from."""
        if (refusal := self._service.server.refusal()) is not None:
            raise HTTPException(503, refusal, _AGAIN | _CLOSE)
        _check_head(request, self._most_bytes)
        if self._service.server.waiting >= self._service.server.policy.most_waiting or self._reading >= _MOST_READING:
            self._service.server.statistics.failures[Reason.REFUSED] += 1
            raise _unanswered(Unanswered(Reason.REFUSED))
        return await self._predict(request)

    async def _predict(self, request: Request) -> Response:
        arrived = time.monotonic()
        longest = self._service.server.policy.deadline
        self._reading += 1
        try:
            async with asyncio.timeout(longest):
                body = await _read(request, self._most_bytes)
        except TimeoutError:
            raise HTTPException(408, f"the body has not arrived within {longest:g} s.", _CLOSE) from None
        except ClientDisconnect:
            return Response(status_code=_HUNG_UP)
        finally:
            self._reading -= 1
        try:
            question = parse(body, request.headers.get("content-type", JSON), request.query_params, longest)
        except BadBody as problem:
            raise HTTPException(problem.status, str(problem)) from problem
        if question.accept is Accept.OWN and not self._service.servable.model.encoder.systematic:
            raise HTTPException(409, "with this code every prediction is rebuilt: accept 'rebuilt' instead of 'own'.")
        reply = await _unless_hung_up(request.receive, self._ask(question))
        if reply is None:
            return Response(status_code=_HUNG_UP)
        return _answer(request, reply, round(1000 * (time.monotonic() - arrived), 3))

    async def _ask(self, question: Question) -> Reply:
        try:
            return await self._service.ask(question.query, question.deadline, question.accept)
        except Unanswered as problem:
            raise _unanswered(problem) from problem
        except Unavailable as problem:
            raise HTTPException(503, str(problem), _AGAIN | _CLOSE) from problem
        except ParityError as problem:
            raise HTTPException(422, str(problem)) from problem

    async def healthz(self) -> Response:
        """Return 200 while the event loop turns."""
        return JSONResponse({"status": "alive"})

    async def readyz(self) -> Response:
        """Return 200 while queries are answered, else 503 and why not."""
        if (problem := self._service.server.problem()) is not None:
            raise HTTPException(503, problem, _AGAIN)
        return JSONResponse({"status": "ready"})

    async def version(self) -> Response:
        """Return which code runs, the hash of the weights, and what a query is: its shape, and its numbers' type."""
        servable = self._service.servable
        query = {
            "shape": list(servable.query_shape),
            "dtype": str(servable.stored).removeprefix("torch."),
            "ids_below": servable.ids_below,
        }
        shown = {"code": self._code, "name": servable.name, "version": servable.version, "query": query}
        return JSONResponse(shown)

    async def metrics(self) -> Response:
        """Return counts for Prometheus."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(request: Request, reply: Reply, latency_ms: float) -> Response:
    wanted = request.headers.get("accept", "")
    for kind in (NPY, SAFETENSORS):
        if kind in wanted:
            headers = {"X-Source": reply.source, "X-Latency-Ms": str(latency_ms)}
            return Response(write_tensor(reply.prediction, kind), headers=headers, media_type=kind)
    return JSONResponse(
        {
            "prediction": reply.prediction.tolist(),
            "source": reply.source,
            "request_id": request.state.request_id,
            "latency_ms": latency_ms,
        }
    )


def _unanswered(problem: Unanswered) -> HTTPException:
    return HTTPException(_STATUS[problem.reason], str(problem), _AGAIN)


def _check_head(request: Request, most: int) -> None:
    """Refuse a body that is not to be read.

    Raises:
        HTTPException: it is announced to have more than so many bytes, or to be compressed.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most:
        raise _too_long(most)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "a body is read as it is, not unpacked: leave Content-Encoding out.")


async def _read(request: Request, most: int) -> bytes:
    """Read a body of at most so many bytes, as it comes.

    Raises:
        HTTPException: it is longer.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_long(most)
    return bytes(body)


def _too_long(most: int) -> HTTPException:
    return HTTPException(413, f"a body has at most {most} bytes here: that is enough for a query.", _CLOSE)


async def _unless_hung_up(receive: Receive, answer: Awaitable[Reply]) -> Reply | None:
    """Wait for an answer; return None, and let go of the query, if the client hangs up first."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await answering if answering.done() else None
    finally:
        for task in (answering, leaving):
            task.cancel()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _RequestIds:
    """Gives every request an id, its own if it brings one, and writes it into the response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        brought = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = brought if _REQUEST_ID.fullmatch(brought) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = error.detail
    if error.status_code == 404:
        sentence = "there is no such page: /docs lists all."
    elif error.status_code == 405:
        sentence = f"{request.url.path} does not take {request.method}: /docs lists what it takes."
    return _problem(request, error.status_code, sentence, error.headers)


async def _explain_own(request: Request, error: Exception) -> Response:
    return _problem(request, 500, "the service has failed at this query, and its log has the reason.", None)


def _problem(request: Request, status: int, sentence: str, headers: Any) -> Response:
    request_id = getattr(request.state, "request_id", "")
    headers = {**(headers or {}), "X-Request-ID": request_id}
    return JSONResponse({"error": sentence, "request_id": request_id}, status, headers)


_TENSOR = {"schema": {"type": "string", "format": "binary"}}
_PROBLEM = {"content": {JSON: {"example": {"error": "one sentence about what is wrong", "request_id": "7f3a"}}}}

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The prediction, and its source: own, hedge, rebuilt or default.",
        "content": {
            JSON: {"example": {"prediction": [0.1, 2.3], "source": "own", "request_id": "7f3a", "latency_ms": 9.8}},
            NPY: _TENSOR,
            SAFETENSORS: _TENSOR,
        },
    },
    **{
        status: {"description": meaning, **_PROBLEM}
        for status, meaning in {
            400: "The body cannot be understood.",
            408: "The body took too long.",
            409: "The code has no answers of their own, and the client accepts no others.",
            413: "The body is longer than a query can be.",
            415: "The body is of another type.",
            422: "The query has another shape, or numbers that no query has.",
            502: "Every worker that could have answered has failed.",
            503: "Too many queries are waiting, or the service is starting or ending; see Retry-After.",
            504: "There was no answer within the deadline that the client accepts.",
        }.items()
    },
}


def _request_body(service: Service) -> dict[str, Any]:
    shape = service.servable.query_shape
    query = {"type": "array", "items": {}, "description": f"nested lists of numbers, of shape {list(shape)}"}
    properties = {
        "query": query,
        "deadline_ms": {"type": "number", "maximum": 1000 * service.server.policy.deadline},
        "accept": {"type": "string", "enum": list(Accept), "default": Accept.REBUILT},
    }
    schema = {"type": "object", "properties": properties, "required": ["query"]}
    content = {JSON: {"schema": schema}, NPY: _TENSOR, SAFETENSORS: _TENSOR}
    return {"requestBody": {"required": True, "content": content}}
