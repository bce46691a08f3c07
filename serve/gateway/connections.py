"""Connections within limits: their number, how slowly a head may come, how slowly they may read.

uvicorn waits for ever for a request's head to be completed and for a client to take its answer.
"""

import uuid
from asyncio import Protocol, TimerHandle, Transport
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from neural_photo_editor.api.envelope import Reply, render_error
from neural_photo_editor.api.errors import RequestError
from serve.gateway.forwarding import REQUEST_ID_HEADER
from serve.gateway.settings import GatewaySettings

MAX_HEAD_BYTES = 32 * 1024  # with the trailers, which are kept as long
_MAX_PIPELINED = 16  # requests that wait for an answer to the one before

_Refusal = tuple[str, RequestError]
_NOT_HTTP: _Refusal = (
    "not_http",
    RequestError(
        400, "Invalid HTTP request received.", field=None, remedy="send a request in HTTP/1.1"
    ),
)
_UPGRADE: _Refusal = (
    "upgrade",
    RequestError(
        400,
        "the connection cannot be upgraded to another protocol",
        field=None,
        remedy="send the request in HTTP/1.1 without the header Upgrade",
    ),
)
_PIPELINED: _Refusal = (
    "pipelined",
    RequestError(
        400,
        "too many requests wait for their answers on this connection",
        field=None,
        remedy="read the answers first, or open more connections",
    ),
)
_LONG_HEAD: _Refusal = (
    "long_head",
    RequestError(
        431,
        f"the request's head has more than {MAX_HEAD_BYTES:,} bytes",
        field=None,
        remedy="send fewer or shorter headers",
    ),
)
_TOO_MANY_CONNECTIONS: _Refusal = (
    "connections",
    RequestError(
        503,
        "the server has too many connections",
        field=None,
        remedy="connect again later",
        retry_after_s=1.0,
    ),
)


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may do; seconds and bytes."""

    max_connections: int
    head_timeout_s: float
    min_bytes_per_s: int
    grace_s: float
    refusals: Counter


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to waiting."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._head_timer: TimerHandle | None = None
        self._reader_timer: TimerHandle | None = None
        self._unread_bytes: int | None = None
        # Of a message's head and trailers: what is parsed, and what waits for the end of its line.
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._refusal = _NOT_HTTP
        # Whose body is arriving.
        self._arriving: RequestResponseCycle | None = None
        # Not answered to the end, the oldest first.
        self._open: list[RequestResponseCycle] = []

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_reader()
        if len(self.connections) > self._limits.max_connections:
            self._refuse(*_TOO_MANY_CONNECTIONS)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting_head()
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        super().connection_lost(exc)
        # uvicorn tells the newest request alone.
        for cycle in self._open:
            cycle.disconnected = cycle.disconnected or not cycle.response_complete
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._head_bytes + self._unparsed_bytes > MAX_HEAD_BYTES:
            self._refuse(*_LONG_HEAD)
        elif self._arriving is None and self._head_timer is None and not self._pending():
            self._await_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head, or of the trailers that follow a body in chunks."""
        self._count_head(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            # The parser would take what follows for another protocol and, later, for a request.
            self._stop_parsing(_UPGRADE)
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop_parsing(_PIPELINED)
        self._stop_awaiting_head()
        super().on_headers_complete()
        self._unparsed_bytes = 0
        self._arriving = self.cycle
        self._open = [*self._pending(), self.cycle]
        # uvicorn reads no more while a request waits for another, nor would it see the client go.
        self.flow.resume_reading()

    def on_chunk_header(self) -> None:
        self._unparsed_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unparsed_bytes = 0
        self._arriving = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The rest of a body that nobody reads could take for ever.
        if self._arriving is not None and self._arriving.response_complete:
            self.transport.close()

    def resume_writing(self) -> None:
        self._unread_bytes = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        self._refuse(*self._refusal)

    def _check_reader(self) -> None:
        """Cut a client that took too little since the last look of what waits for it alone."""
        waits = self.transport.is_closing() or self.flow.write_paused
        unread = self.transport.get_write_buffer_size() if waits else 0
        least = self._limits.grace_s * self._limits.min_bytes_per_s
        if unread and self._unread_bytes is not None and self._unread_bytes - unread < least:
            self._cut("slow_reader")
            return
        self._unread_bytes = unread or None
        self._watch_reader()

    def _watch_reader(self) -> None:
        self._reader_timer = self.loop.call_later(self._limits.grace_s, self._check_reader)

    def _pending(self) -> list[RequestResponseCycle]:
        return [cycle for cycle in self._open if not cycle.response_complete]

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        self._unparsed_bytes = max(0, self._unparsed_bytes - size)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._stop_parsing(_LONG_HEAD)

    def _stop_parsing(self, refusal: "_Refusal") -> None:
        self._refusal = refusal
        raise ValueError(refusal[0])  # The parser gives up, and uvicorn asks for a 400.

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._cut, "slow_head")

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self, reason: str) -> None:
        self._limits.refusals.labels(reason).inc()
        self.transport.abort()

    def _refuse(self, reason: str, error: RequestError) -> None:
        self._stop_awaiting_head()
        if any(cycle is not self._arriving or cycle.response_started for cycle in self._pending()):
            self._cut(reason)  # An answer now would be taken for another request's.
            return
        self._limits.refusals.labels(reason).inc()
        self.transport.write(_write_response(render_error(error)))
        self.transport.close()


def guarded_protocol(settings: GatewaySettings, refusals: Counter) -> type[Protocol]:
    """Return what uvicorn calls to make the protocol of a connection."""
    limits = ConnectionLimits(
        max_connections=settings.max_connections,
        head_timeout_s=settings.head_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
        grace_s=settings.rate_grace_s,
        refusals=refusals,
    )
    return cast(type[Protocol], partial(GuardedProtocol, limits=limits))


def _write_response(reply: Reply) -> bytes:
    headers = {
        **reply.headers,
        REQUEST_ID_HEADER: uuid.uuid4().hex,
        "Content-Length": str(len(reply.body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {reply.status} {reply.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + reply.body
