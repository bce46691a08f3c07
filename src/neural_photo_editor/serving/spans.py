"""Traces: what the worker did for a request, as a span below the gateway's, with OpenTelemetry."""

import os
import time
from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Spans:
    """Records one span for each request.

    Args:
        processor: receives the spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        provider = TracerProvider(resource=Resource.create({"service.name": "npe-worker"}))
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer(__name__)

    @classmethod
    def from_environment(cls) -> "Spans | None":
        """Return what OpenTelemetry's own variables configure; None where they name no endpoint."""
        if not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        return cls(BatchSpanProcessor(OTLPSpanExporter()))

    def record(
        self,
        name: str,
        *,
        traceparent: str | None,
        seconds: float,
        status: int,
        attributes: Mapping[str, str | int | float],
    ) -> None:
        """Record a span that ends now.

        Args:
            name: what was done.
            traceparent: of the span above, in W3C's form; one that is not counts as absent.
            seconds: how long it took.
            status: HTTP status of the answer; from 500 on the span is an error.
            attributes: further facts.
        """
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent or ""})
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            context=context,
            kind=SpanKind.SERVER,
            attributes={"http.response.status_code": status, **attributes},
            start_time=end_ns - round(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_ns)
