"""Around every request: its id, security headers, the log line, metrics, and the last resort."""

import logging
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neural_photo_editor.api.errors import internal_error
from serve.gateway.forwarding import REQUEST_ID_HEADER
from serve.gateway.logs import log_request
from serve.gateway.metrics import GatewayMetrics
from serve.gateway.problems import error_response
from serve.gateway.records import CLIENT_GONE, begin_record
from serve.gateway.tracing import Tracing

logger = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # photos of people
}


class RequestMiddleware:
    """Wraps the whole application; nothing but ASGI, so that streams stay streams.

    Args:
        is_draining: whether connections are to be closed after their answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: GatewayMetrics,
        tracing: Tracing,
        is_draining: Callable[[], bool],
    ) -> None:
        self._app = app
        self._is_draining = is_draining
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = begin_record(scope)
        status = CLIENT_GONE
        seconds = 0.0

        async def send_noting(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = record.request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._is_draining():
                    headers["Connection"] = "close"
            else:
                record.bytes_out += len(message.get("body", b""))
            seconds = time.perf_counter() - record.started
            await send(message)

        try:
            given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
            with self._tracing.request("request", given) as note_status:
                await self._app(scope, receive, send_noting)
                note_status(record.status or status)
        except Exception:
            logger.exception("a request failed")
            if status != CLIENT_GONE:
                raise
            failed = error_response(internal_error(), path=scope["path"])
            await failed(scope, receive, send_noting)
        finally:
            record.held.close()
            status = record.status or status
            seconds = seconds or time.perf_counter() - record.started
            log_request(record, status=status, seconds=seconds)
            labels = (record.operation, str(status), record.channel)
            self._metrics.requests.labels(*labels).inc()
            self._metrics.latency.labels(record.operation).observe(seconds)
