"""Tracing with OpenTelemetry; imported only where an endpoint is configured."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve.gateway.tracing import clean_traceparent


class OpenTelemetryTracing:
    """Sends spans over OTLP/HTTP; configured by OpenTelemetry's own environment variables."""

    def __init__(self) -> None:
        resource = Resource.create({"service.name": "npe-gateway"})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("serve.gateway")

    @contextmanager
    def request(self, name: str, traceparent: str | None) -> Iterator[None]:
        given = clean_traceparent(traceparent)
        carrier = {"traceparent": given} if given else {}
        context = TraceContextTextMapPropagator().extract(carrier)
        with self._tracer.start_as_current_span(
            name, context=context, kind=SpanKind.SERVER, record_exception=False
        ):
            yield

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        with self._tracer.start_as_current_span(name, kind=SpanKind.CLIENT, record_exception=False):
            yield

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.shutdown()
