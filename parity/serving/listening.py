"""Runs the application on a port, until a signal ends it."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator

import uvicorn

from parity.errors import ParityError, in_one_line
from parity.serving.app import make_app
from parity.serving.http import MOST_HEAD, Protocol
from parity.serving.server import CodedServer
from parity.serving.service import Service
from parity.terminal import visible

_log = logging.getLogger(__name__)

_BACKLOG = 2048
_KEPT_ALIVE = 75  # seconds; longer than gateways keep a connection (nginx: 60), which else send into one that closes


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes any that is free.

    Raises:
        ParityError: it cannot listen there.
    """
    if not host:
        raise ParityError("--host names no address: leave it out for this machine alone, or give 0.0.0.0 for all.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = in_one_line(error)
        raise ParityError(
            f"cannot listen on {host}, port {port} ({reason}): choose another --port or --host."
        ) from error


Watch = Callable[[CodedServer], Coroutine[None, None, None]]
"""Runs beside a server, from when it is ready until it is closed, and is then cancelled."""


async def serve_http(
    service: Service, listening: socket.socket, linger: float = 0.5, watch: Watch | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted, and end. SIGHUP loads the weights again.

    Args:
        service: not started.
        listening: the socket.
        linger: seconds for which, once all accepted queries are answered, others still get their 503: connections that
            are kept alive are closed after an answer and not before one.

    Raises:
        ParityError: the service cannot start.
    """
    running = _Running(service, listening, watch)
    loop, interrupted = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, running.stop)
    loop.add_signal_handler(signal.SIGHUP, running.reload)
    try:
        await running.run(linger)
    finally:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(signum)
        signal.signal(signal.SIGINT, interrupted)


class _Running:
    def __init__(self, service: Service, listening: socket.socket, watch: Watch | None) -> None:
        self._service, self._listening, self._watch = service, listening, watch
        self._stopped = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """End; a second signal ends the process as if there was no handler."""
        self._stopped.set()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_DFL)  # of SIGINT Python's own would wait for what hangs

    def reload(self) -> None:
        """Load the weights again, unless that is being done."""
        if not self._reloads:
            reload = asyncio.create_task(self._reload())
            self._reloads.add(reload)
            reload.add_done_callback(self._reloads.discard)

    async def run(self, linger: float) -> None:
        longest = self._service.server.policy.deadline
        config = uvicorn.Config(
            make_app(self._service),
            http=Protocol,
            h11_max_incomplete_event_size=MOST_HEAD,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEPT_ALIVE,
            timeout_graceful_shutdown=math.ceil(longest) + 5,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve([self._listening]))
        try:
            await self._serve(linger)
        finally:
            server.should_exit = True
            await serving

    async def _serve(self, linger: float) -> None:
        starting, stopping = asyncio.create_task(self._start()), asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting  # raises
                await self._until(stopping)
        finally:
            stopping.cancel()
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        _log.info("answering what was accepted, then ending")
        if not await self._service.server.close():
            _log.warning("a worker did not end, and was left behind.")
        await asyncio.sleep(linger)

    async def _until(self, stopping: asyncio.Task[bool]) -> None:
        watching = asyncio.create_task(self._watch(self._service.server)) if self._watch is not None else None
        await stopping
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
            if not watching.cancelled() and (error := watching.exception()) is not None:
                _log.warning("what runs beside the service failed: %s", in_one_line(error))

    async def _start(self) -> None:
        await self._service.server.start()
        host, port = self._listening.getsockname()[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        name = visible(self._service.servable.name)
        _log.info("serving %s on http://%s: ask /predict, read /docs", name, where)

    async def _reload(self) -> None:
        try:
            await self._service.reload()
        except Exception as error:  # whatever it is: what is served stays
            _log.error("not loaded, serving what was there: %s", in_one_line(error))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: this package answers what waits before it ends, and then exits with status 0."""
        yield
