"""A small backend over real sockets: TorchServe's wire and the control server's, failing to order.

A real TorchServe takes seconds to start and does not fail when told to; tests/e2e has one.
"""

import contextlib
import json
import re
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from neural_photo_editor.api.envelope import Reply, parse_row, render, render_error
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditRequest,
    EditResult,
    Request,
    SegmentMetadata,
    SegmentRequest,
    SegmentResult,
    UpscaleMetadata,
    UpscaleResult,
)
from serve.gateway.routes import BackendRoute

_DISPOSITION = re.compile(rb'name="([^"]+)"')

TORCHSERVE_FAILURES: dict[str, tuple[int, str]] = {
    "worker_died": (507, "InternalServerException"),
    "handler_crashed": (503, "InternalServerException"),
    "queue_full": (503, "ServiceUnavailableException"),
    "no_model": (404, "ModelNotFoundException"),
}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of gateways that left: tests let them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class SmallBackend:
    """Answers with the photo; a context manager.

    Attributes:
        plan: what to do with the next requests, then they are answered: a key of
            TORCHSERVE_FAILURES, ``reset``, ``refuse`` (422) or ``hold``.
        received, headers: the requests and their headers, in order of arrival.
        canceled: ids that were deleted.
        forgets: how many deletions it forgets, as a worker does that starts again.
        holds_deletions: whether they are answered when released.
        arrived, release: set when a request is held; set to answer it.
        unheld: what to do with a held request when it is released, as in the plan.
        events: lines that /jobs/ID/events tells of any job.
    """

    def __init__(
        self,
        digest: str = "a" * 64,
        *,
        max_batch: int = 4,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.digest = digest
        self.max_batch = max_batch
        self.ready = True
        self.plan: deque[str] = deque()
        self.received: list[Request] = []
        self.headers: list[dict[str, str]] = []
        self.canceled: list[str] = []
        self.forgets = 0
        self.holds_deletions = False
        self.arrived, self.release, self.was_canceled = Event(), Event(), Event()
        self.unheld = "answer"
        self.events: list[dict[str, Any]] = []
        self._server = _Server(address, _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://{address[0]}:{self.port}"

    def __enter__(self) -> "SmallBackend":
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ready = False  # A connection that is open outlives its server.
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def route(self) -> BackendRoute:
        return BackendRoute(url=self.url, control_url=self.url)


def _handler(backend: SmallBackend) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path == "/ready" and backend.ready:
                info = {
                    "bundle_digest": backend.digest,
                    "max_batch": backend.max_batch,
                    "resolution": 64,
                    "licenses": ["MIT"],
                    "defaults": {"steps": 50},
                    "receipt_key": {"key_id": "k", "public_key": "p"},
                }
                self._send(Reply(200, "OK", {}, json.dumps(info).encode()))
            elif self.path.endswith("/events"):
                lines = [*backend.events, {"end": True}]
                body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                # A gateway that has its answer listens no more.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._send(Reply(200, "OK", {}, body))
            else:
                self._send(Reply(503, "Not ready", {}, b""))

        def do_DELETE(self) -> None:
            if backend.forgets:
                backend.forgets -= 1
            else:
                backend.canceled.append(self.path.removeprefix("/jobs/"))
            backend.was_canceled.set()
            if backend.holds_deletions:
                backend.release.wait(10)
            self._send(Reply(202, "Accepted", {}, b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            request = parse_row(_parts(body, self.headers["content-type"]))
            backend.received.append(request)
            backend.headers.append({k.lower(): v for k, v in self.headers.items()})
            self._do(backend.plan.popleft() if backend.plan else "answer", request)

        def _do(self, action: str, request: Request) -> None:
            if action in TORCHSERVE_FAILURES:
                status, kind = TORCHSERVE_FAILURES[action]
                problem = {"code": status, "type": kind, "message": "in the plan"}
                self._send(Reply(status, kind, {}, json.dumps(problem).encode()))
            elif action == "reset":
                self._reset()
            elif action == "refuse":
                self._send(render_error(RequestError(422, "not so", field="mask", remedy="mend")))
            elif action == "hold":
                self._hold(request)
            else:
                self._send(_answer(request, backend.digest))

        def _hold(self, request: Request) -> None:
            backend.arrived.set()
            while not backend.release.wait(0.005):
                if self.headers["X-NPE-Request-Id"] in backend.canceled:
                    canceled = RequestError(409, "canceled", field=None, remedy="again")
                    self._send(render_error(canceled))
                    return
            self._do(backend.unheld, request)

        def _reset(self) -> None:
            # Closing with SO_LINGER 0 resets the connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status, reply.phrase)
            for name, value in reply.headers.items():
                self.send_header(name.lower(), value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        log_message: Callable[..., None] = lambda *_: None

    return Handler


def _answer(request: Request, digest: str) -> Reply:
    shared = {"width": 64, "height": 64, "bundle_digest": digest}
    if isinstance(request, EditRequest):
        edit = EditMetadata(
            **shared, seed=request.seed or 0, sampler="ddim", steps=3, timestep=9, strength=0.5
        )
        return render(EditResult(image=request.photo, metadata=edit), response=request.response)
    result: SegmentResult | UpscaleResult
    if isinstance(request, SegmentRequest):
        regions = SegmentMetadata(**shared, regions=())
        result = SegmentResult(image=request.photo, metadata=regions)
    else:
        scaled = UpscaleMetadata(**shared, scale=4)
        result = UpscaleResult(image=request.photo, metadata=scaled)
    return render(result, response=request.response)


def _parts(body: bytes, content_type: str) -> dict[str, bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    parts = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        name = _DISPOSITION.search(head)
        assert name is not None
        parts[name[1].decode()] = data[:-2]
    return parts
