"""HTTP/1.1 as uvicorn speaks it with h11: whoever is refused can read why, and no client holds up the others."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_HEAD = 65536
"""Bytes that a request's line and headers may have."""

LINGER = 10.0
"""Seconds for which a client that was refused may still send."""

_AT_ONCE = 16384  # bytes that are parsed in one step of the event loop: a body of tiny chunks takes 25 µs for each
_SENTENCE = f'{{"error":"this is not a request of HTTP/1.1, or its head is longer than {MOST_HEAD} bytes."}}'


class Protocol(H11Protocol):
    """A connection; one that is closed while its client still sends is closed later, as nginx's lingering close does.

    Closed at once it would be reset, and the client may then never read the response.
    """

    _over = False  # what still arrives is dropped

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        transport.max_size = _AT_ONCE  # type: ignore[attr-defined]  # of asyncio's own transports
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless its sender was refused."""
        if not self._over:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; the request in whose body it stands is over."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(_SENTENCE)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n{_SENTENCE}".encode())
        self.transport.close()

    def shutdown(self) -> None:
        """End with the service, after the response that is being made."""
        if self._over:
            self.transport.close()
        else:
            super().shutdown()

    def lingers(self) -> bool:
        """Return whether the connection, which is to be closed, is to be left open while its client sends."""
        if self._over or self.conn.their_state not in (h11.SEND_BODY, h11.ERROR):
            return False
        self._over = True
        return True


class _Transport:
    """A transport that is closed when nothing arrives any more, or when it is closed twice.

    Args:
        transport: of the connection.
        protocol: knows whether its client still sends.
    """

    def __init__(self, transport: asyncio.Transport, protocol: Protocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        self._closing = True
        if self._transport.is_closing() or not self._protocol.lingers():
            self._transport.close()
        else:
            self._transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER, self._transport.close)
