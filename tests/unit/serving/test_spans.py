"""Spans of the worker, in memory and sent to a collector that the environment names."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from neural_photo_editor.api.schema import EditResult
from neural_photo_editor.serving.edit_worker import EditWorker
from neural_photo_editor.serving.spans import ENDPOINT_VARIABLES, Spans
from neural_photo_editor.serving.ticket import Ticket
from tests.unit.editing.tiny_pipeline import edit_request, make_photo, make_pipeline

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
JOB = "1" * 32


def test_each_request_has_a_span_below_its_sender() -> None:
    exporter = InMemorySpanExporter()
    worker = EditWorker(make_pipeline(), spans=Spans(SimpleSpanProcessor(exporter)))
    request = edit_request(make_photo(), steps=3, color="#30c060")
    worker.jobs.cancel("2" * 32)
    tickets = [Ticket(job_id=JOB, traceparent=TRACEPARENT), Ticket(job_id="2" * 32)]
    answer, _ = worker.answer([request, request], tickets)
    assert isinstance(answer, EditResult)
    done, canceled = exporter.get_finished_spans()
    assert done.name == "edit"
    assert done.parent is not None
    assert f"{done.context.trace_id:032x}" == TRACE
    assert f"{done.parent.span_id:016x}" == PARENT
    assert done.attributes is not None
    assert done.attributes["npe.request_id"] == JOB
    assert done.attributes["npe.steps"] == 3
    assert done.attributes["npe.diffuse_ms"] == answer.metadata.timings_ms["diffuse"]
    assert done.start_time is not None
    assert done.end_time is not None
    assert (done.end_time - done.start_time) / 1e6 > answer.metadata.timings_ms["diffuse"]
    assert canceled.attributes is not None
    assert canceled.attributes["http.response.status_code"] == 409
    assert canceled.parent is None


@pytest.mark.parametrize(("status", "code"), [(200, StatusCode.UNSET), (504, StatusCode.ERROR)])
def test_failures_of_the_server_are_errors(status: int, code: StatusCode) -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter))
    spans.record("edit", traceparent="no trace", seconds=1.0, status=status, attributes={})
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code == code
    assert span.parent is None


def test_spans_are_sent_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = Thread(target=server.handle_request)
    thread.start()
    for name in ENDPOINT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert Spans.from_environment() is None
    monkeypatch.setenv(ENDPOINT_VARIABLES[0], f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # ms
    spans = Spans.from_environment()
    assert spans is not None
    spans.record("edit", traceparent=TRACEPARENT, seconds=0.1, status=200, attributes={})
    thread.join(timeout=60)
    server.server_close()
    (resource,) = received[0].resource_spans
    names = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
    assert names["service.name"] == "npe-worker"
    assert resource.scope_spans[0].spans[0].trace_id.hex() == TRACE
