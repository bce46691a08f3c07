"""The worker's side door: readiness, metrics, previews and cancellation over plain HTTP.

    GET /ready              what is served; answered only once the worker can answer requests
    GET /metrics            Prometheus' text format
    GET /jobs/ID/events     one line of JSON per shown step, the last one {"end": true}
    DELETE /jobs/ID         give the job up at its next step
    POST /drain             be ready no more, from now on; answers how many requests are computed

ID is what the header X-NPE-Request-Id of the request says: 32 hexadecimal digits. A server process
of its own has no other way in: while a handler computes, it hears nothing of the model server.
"""

import hmac
import json
import re
import select
import socket
import socketserver
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Event, Thread
from types import TracebackType
from typing import Any, Self

from neural_photo_editor.api.envelope import Reply, render_error
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.serving.job_registry import (
    MAX_STREAMS,
    EventStream,
    JobRegistry,
    parse_job_id,
)
from neural_photo_editor.serving.previews import END_LINE, PREVIEW_CONTENT_TYPE

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MAX_CONNECTIONS = MAX_STREAMS + 32  # each has a thread; further ones are closed at once
_SOCKET_TIMEOUT_S = 30.0  # for a request to arrive, a line to leave, and an idle connection
_MAX_STREAM_S = 900.0  # longer than the model server lets any request take
_LOOK_EVERY_S = 1.0  # whether a listener is still there

_JOB_PATH = re.compile(r"/jobs/([^/]*)(/events)?")

_log = get_logger(__name__)


class ControlServer:
    """Serves a registry of jobs in daemon threads; a context manager.

    Args:
        jobs: shared with the worker.
        info: body of /ready, a JSON object.
        metrics: returns the body of /metrics.
        host, port: address to listen at; port 0 picks a free one.
        token: what requests below /jobs must bring as ``Authorization: Bearer TOKEN``; None or an
            empty one asks for none.

    Raises:
        OSError: from ``start``: the address cannot be used.
    """

    def __init__(
        self,
        jobs: JobRegistry,
        *,
        info: Mapping[str, Any],
        metrics: Callable[[], bytes],
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
    ) -> None:
        self._address = host, port
        self._handler = partial(
            _Handler,
            jobs=jobs,
            info=json.dumps(info).encode("ascii"),
            metrics=metrics,
            token=token,
            draining=Event(),
        )
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base address, once started."""
        assert self._server is not None, "not started"
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> Self:
        """Listen, and answer from now on."""
        self._server = _Server(self._address, self._handler)
        serve = partial(self._server.serve_forever, poll_interval=0.1)
        Thread(target=serve, name="npe-control", daemon=True).start()
        return self

    def stop(self) -> None:
        """Listen no more; connections that are open end with the process."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: Callable[..., Any]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks the host's name up as well, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # Mostly listeners that left while a line was on its way to them.
        _log.debug("a control connection ended early: %r", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "npe-control"
    sys_version = ""
    timeout = _SOCKET_TIMEOUT_S
    disable_nagle_algorithm = True

    def __init__(
        self,
        *arguments: Any,
        jobs: JobRegistry,
        info: bytes,
        metrics: Callable[[], bytes],
        token: str | None,
        draining: Event,
    ) -> None:
        self._jobs, self._info, self._metrics, self._token = jobs, info, metrics, token
        self._draining = draining
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self._answer({"/ready": self._ready, "/metrics": self._tell_metrics}, job=self._tell_events)

    def do_DELETE(self) -> None:
        self._answer({}, job=self._cancel)

    def do_POST(self) -> None:
        self._answer({"/drain": self._drain}, job=_no_such_verb)

    def _answer(
        self, pages: Mapping[str, Callable[[], None]], *, job: Callable[[str, bool], None]
    ) -> None:
        try:
            self._refuse_body()
            if self.path in pages:
                pages[self.path]()
                return
            match = _JOB_PATH.fullmatch(self.path)
            if match is None:
                raise _not_found()
            self._check_token()
            job_id = parse_job_id(match[1])
            if job_id is None:
                raise _bad_id()
            job(job_id, match[2] is not None)
        except RequestError as error:
            self._send(render_error(error))

    def _drain(self) -> None:
        self._check_token()
        self._draining.set()
        body = json.dumps({"in_flight": self._jobs.in_flight}).encode("ascii")
        self._send(Reply(202, "Accepted", {"Content-Type": "application/json"}, body))

    def _ready(self) -> None:
        if self._draining.is_set():
            raise RequestError(
                503, "the worker is to stop", field=None, remedy="send requests to another one"
            )
        self._send(Reply(200, "OK", {"Content-Type": "application/json"}, self._info))

    def _tell_metrics(self) -> None:
        self._send(Reply(200, "OK", {"Content-Type": METRICS_CONTENT_TYPE}, self._metrics()))

    def _cancel(self, job_id: str, events: bool) -> None:
        if events:
            raise _not_found()
        self._jobs.cancel(job_id)
        self._send(Reply(202, "Accepted", {}, b""))

    def _tell_events(self, job_id: str, events: bool) -> None:
        if not events:
            raise _not_found()
        with self._jobs.listen(job_id) as stream:
            self.send_response(200)
            self.send_header("Content-Type", PREVIEW_CONTENT_TYPE)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._send_events(stream)

    def _send_events(self, stream: EventStream) -> None:
        until = time.monotonic() + _MAX_STREAM_S
        while not stream.ended and time.monotonic() < until:
            event = stream.next(_LOOK_EVERY_S)
            if event is not None:
                self._send_chunk(event.to_line())
            elif self._client_left():
                self.close_connection = True
                return
        self._send_chunk(END_LINE)
        self._send_chunk(b"")

    def _send_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _client_left(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _refuse_body(self) -> None:
        length = self.headers.get("Content-Length", "0").strip()
        if length == "0" and "Transfer-Encoding" not in self.headers:
            return
        self.close_connection = True  # The body stays unread.
        raise RequestError(413, "the request has a body", field=None, remedy="send it without one")

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        if self._token and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise RequestError(
                401,
                "the control token is missing or wrong",
                field=None,
                remedy="send the worker's NPE_CONTROL_TOKEN as Authorization: Bearer TOKEN",
            )

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status, reply.phrase)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(reply.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Write what the base class refuses as a problem document too."""
        self.close_connection = True
        detail = message or explain or "the request cannot be read"
        self._send(render_error(RequestError(code, detail, field=None, remedy="mend the request")))

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)


def _bad_id() -> RequestError:
    return RequestError(
        422, "this is no id of a job", field="id", remedy="send 32 hexadecimal digits"
    )


def _no_such_verb(*_: object) -> None:
    raise _not_found()


def _not_found() -> RequestError:
    return RequestError(
        404, "there is nothing here", field=None, remedy="see /ready, /metrics and /jobs/ID"
    )
