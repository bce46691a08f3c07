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

MAX_HEAD_BYTES = 32 * 1024


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
        self._write_timer: TimerHandle | None = None
        self._head_bytes = 0
        # Whose body is arriving.
        self._arriving: RequestResponseCycle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            self._refuse(
                "connections",
                RequestError(
                    503,
                    "the server has too many connections",
                    field=None,
                    remedy="connect again later",
                    retry_after_s=1.0,
                ),
            )
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_awaiting_head()
        self._stop_awaiting_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self._arriving is not None:
            return
        if self.cycle is None or self.cycle.response_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(
                    "long_head",
                    RequestError(
                        431,
                        f"the request's head has more than {MAX_HEAD_BYTES:,} bytes",
                        field=None,
                        remedy="send fewer or shorter headers",
                    ),
                )
            elif self._head_timer is None:
                self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_awaiting_head()
        super().on_headers_complete()
        self._head_bytes = 0
        self._arriving = self.cycle

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arriving = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The rest of a body that nobody reads could take for ever.
        if self._arriving is not None and self._arriving.response_complete:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        waiting = self.transport.get_write_buffer_size()
        timeout_s = self._limits.grace_s + waiting / self._limits.min_bytes_per_s
        self._stop_awaiting_reader()
        self._write_timer = self.loop.call_later(timeout_s, self._cut, "slow_reader")

    def resume_writing(self) -> None:
        self._stop_awaiting_reader()
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits until what was written has been read.
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._limits.grace_s, self._cut, "slow_reader")

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            "not_http", RequestError(400, msg, field=None, remedy="send a request in HTTP/1.1")
        )

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._cut, "slow_head")

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_awaiting_reader(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _cut(self, reason: str) -> None:
        self._limits.refusals.labels(reason).inc()
        self.transport.abort()

    def _refuse(self, reason: str, error: RequestError) -> None:
        self._stop_awaiting_head()
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
