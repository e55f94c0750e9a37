"""The service behind real sockets: whoever is refused reads why, and nobody holds up the others."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from parity.errors import ParityError
from parity.serving import Policy, Service, Supervision, make_pool
from parity.serving.http import MOST_HEAD
from parity.serving.listening import listen, serve_http
from tests.serving.test_app import PIXELS, SOON, expected, run, servable

GOOD = json.dumps({"query": PIXELS}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\n"
MEBIBYTE = b" " * 2**20


def patient_service(stored: torch.dtype = torch.uint8) -> Service:
    """A service of one base worker whose queries are never rebuilt."""

    def make(model: Any) -> Any:
        return make_pool("threads", model, 1, supervision=Supervision(silent_after=SOON))

    return Service(lambda: servable(stored=stored), make, Policy(patience=SOON, deadline=SOON))


def float_service() -> Service:
    """One that takes any numbers."""
    return patient_service(torch.float32)


@asynccontextmanager
async def serving(service: Service | None = None) -> AsyncIterator[int]:
    """Serve until the block ends; yield the port."""
    service = service or patient_service()
    with listen("127.0.0.1", 0) as listening:
        serves = asyncio.create_task(serve_http(service, listening, linger=0.0))
        try:
            while service.server.refusal() is not None:
                await asyncio.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            os.kill(os.getpid(), 15)
            await serves


def exchange(port: int, parts: Iterator[bytes]) -> tuple[int, dict[str, Any]]:
    """Send all, and only then read, as simple clients do; a connection that is reset fails the test."""
    with socket.create_connection(("127.0.0.1", port), timeout=SOON) as client:
        for part in parts:
            client.sendall(part)
        reply = b""
        while b"\r\n\r\n" not in reply or not reply.endswith(b"}"):
            received = client.recv(65536)
            assert received, reply
            reply += received
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def announced(body: bytes = GOOD, headers: bytes = b"") -> Iterator[bytes]:
    yield HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def in_chunks(chunk: bytes, times: int) -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(times):
        yield b"%x\r\n" % len(chunk) + chunk + b"\r\n"
    yield b"0\r\n\r\n"


def long_body() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: %d\r\n\r\n" % (64 * 2**20)
    for _ in range(64):
        yield MEBIBYTE


def long_head() -> Iterator[bytes]:
    yield HEAD + b"X-Long: "
    for _ in range(16):
        yield MEBIBYTE
    yield b"\r\n\r\n"


BAD = {
    "a long body": (413, long_body, "a body has at most"),
    "a long body in chunks": (413, lambda: in_chunks(MEBIBYTE, 64), "a body has at most"),
    "a body in chunks of a byte": (413, lambda: in_chunks(b" ", 50_000), "a body has at most"),
    "a long head": (400, long_head, f"longer than {MOST_HEAD} bytes"),
    "a long path": (400, lambda: iter([b"GET /" + MEBIBYTE.replace(b" ", b"a")]), "not a request of HTTP/1.1"),
    "nonsense": (400, lambda: iter([b"nonsense\r\n\r\n"]), "not a request of HTTP/1.1"),
    "TLS": (400, lambda: iter([b"\x16\x03\x01\x02\x00\x01\x00\r\n"]), "not a request of HTTP/1.1"),
    "a broken chunk": (400, lambda: iter([HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"]), "not a request"),
    "a negative length": (400, lambda: iter([HEAD + b"Content-Length: -5\r\n\r\n"]), "not a request of HTTP/1.1"),
    "a control character": (400, lambda: announced(headers=b"X-Request-ID: a\rb\r\n"), "not a request of HTTP/1.1"),
}  # fmt: skip


def test_whoever_is_refused_reads_why_and_nobody_else_notices() -> None:
    async def test() -> None:
        async with serving() as port:
            before = len(os.listdir("/proc/self/fd"))
            for what, (status, parts, sentence) in BAD.items():
                found, body = await asyncio.to_thread(exchange, port, parts())
                assert (what, found) == (what, status)
                assert sentence in body["error"]
                assert body["error"].endswith(".")
                found, body = await asyncio.to_thread(exchange, port, announced())
                assert (found, body["prediction"]) == (200, pytest.approx(expected(PIXELS), rel=1e-5)), what
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.01)

    run(test)


def test_a_client_that_asks_for_another_protocol_is_answered_in_http_1() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"

    async def test() -> None:
        async with serving() as port:
            assert (await asyncio.to_thread(exchange, port, announced(headers=upgrade)))[0] == 200

    run(test)


def test_clients_that_leave_at_any_point_leave_nothing_behind() -> None:
    request = b"".join(announced())

    async def test() -> None:
        async with serving() as port:
            before = len(os.listdir("/proc/self/fd"))
            for length in range(0, len(request) + 1, 7):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(request[:length])
            assert (await asyncio.to_thread(exchange, port, announced()))[0] == 200
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0.01)

    run(test)


def test_an_empty_host_is_not_every_address() -> None:
    with pytest.raises(ParityError, match="names no address"):
        listen("", 0)


HANGING = """
import asyncio, sys, threading
from tests.serving.test_http import patient_service, listen, serve_http

service = patient_service()

async def main():
    serving = asyncio.create_task(serve_http(service, listening))
    while service.server.refusal() is not None:
        await asyncio.sleep(0.01)
    service.server._now.pool.faults.stall(0)
    asking = asyncio.create_task(service.ask(__import__("torch").zeros(1, 2, 2), accept="own"))
    await asyncio.sleep(0.1)
    print("asked", flush=True)
    while service.server.refusal() is None:
        await asyncio.sleep(0.01)
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)  # what Python's end would wait for
    print("closing", flush=True)
    await serving

with listen("127.0.0.1", 0) as listening:
    asyncio.run(main())
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_service_at_once_although_a_query_is_not_answered(signum: signal.Signals) -> None:
    command = [sys.executable, "-c", HANGING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            for line in ("asked", "closing"):
                assert line in process.stdout.readline()
                process.send_signal(signum)
            assert process.wait(SOON / 2) == -signum
        finally:
            process.kill()


def test_a_refused_client_that_never_ends_does_not_keep_the_service_from_ending() -> None:
    async def test() -> None:
        with contextlib.ExitStack() as stack:
            async with serving() as port:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
                assert (await asyncio.to_thread(client.recv, 65536)).startswith(b"HTTP/1.1 413 ")

    run(test)
