"""Traces: sent to a collector where one is configured, else the caller's id is handed on."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from serve.gateway.tracing import NoTracing, Tracing, clean_traceparent, create_tracing
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import FILES, small_gateway

TRACE, PARENT = "ab" * 16, "cd" * 8
GIVEN = f"00-{TRACE}-{PARENT}-01"


class Collector:
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                collector.spans += [
                    span
                    for resource in request.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.spans: list[Span] = []
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def headers_at_the_backend(
    folder: Path,
    tracing: Tracing,
    given: str | None,
    *,
    plan: Sequence[str] = (),
    status: int = 200,
) -> dict[str, str]:
    async def run() -> dict[str, str]:
        with SmallBackend() as backend:
            backend.plan.extend(plan)
            async with small_gateway(folder, backend, tracing=tracing, max_attempts=1) as gateway:
                headers = {"traceparent": given} if given else {}
                reply = await gateway.client.post("/v1/edit", files=FILES, headers=headers)
                assert reply.status_code == status
            return backend.headers[0]

    return asyncio.run(run())


def test_spans_of_a_request(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing = create_tracing()
    headers = headers_at_the_backend(tmp_path, tracing, GIVEN)
    tracing.close()
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"request", "backend"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert spans["request"].parent_span_id.hex() == PARENT
    assert spans["backend"].parent_span_id == spans["request"].span_id
    # The worker's own spans would be below the backend's.
    assert headers["traceparent"] == f"00-{TRACE}-{spans['backend'].span_id.hex()}-01"


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        ("refuse", 422, Status.STATUS_CODE_UNSET),
        ("worker_died", 500, Status.STATUS_CODE_ERROR),
    ],
)
def test_spans_of_failures_have_no_text(
    tmp_path: Path,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    status: int,
    code: int,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing = create_tracing()
    headers_at_the_backend(tmp_path, tracing, None, plan=[failure], status=status)
    tracing.close()
    told = {span.name: (span.status.code, span.status.message) for span in collector.spans}
    assert told == {"request": (code, ""), "backend": (code, "")}
    assert not any(span.events for span in collector.spans)


def test_without_a_collector_the_callers_id_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing = create_tracing()
    assert isinstance(tracing, NoTracing)
    assert headers_at_the_backend(tmp_path, tracing, GIVEN)["traceparent"] == GIVEN
    assert "traceparent" not in headers_at_the_backend(tmp_path, tracing, None)
    assert "traceparent" not in headers_at_the_backend(tmp_path, tracing, "00-what-1")


def test_only_traceparents_pass() -> None:
    assert clean_traceparent(GIVEN) == GIVEN
    for bad in (None, "", GIVEN + "\r\nX: 1", GIVEN.upper(), "00-1-2-3"):
        assert clean_traceparent(bad) is None


def test_opentelemetry_is_not_imported_without_need() -> None:
    code = (
        "import sys, os; os.environ.pop('OTEL_EXPORTER_OTLP_ENDPOINT', None);"
        "import serve.gateway.server as s; s.create_tracing();"
        "unwanted = ('opentelemetry.sdk', 'opentelemetry.exporter', 'torch', 'ts.');"
        "print([name for name in sys.modules if name.startswith(unwanted)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
