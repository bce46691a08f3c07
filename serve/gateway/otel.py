"""Tracing with OpenTelemetry; imported only where an endpoint is configured."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from neural_photo_editor.api.errors import RequestError
from serve.gateway.tracing import clean_traceparent


class OpenTelemetryTracing:
    """Sends spans over OTLP/HTTP; configured by OpenTelemetry's own environment variables."""

    def __init__(self) -> None:
        resource = Resource.create({"service.name": "npe-gateway"})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("serve.gateway")

    @contextmanager
    def request(self, name: str, traceparent: str | None) -> Iterator[Callable[[int], None]]:
        given = clean_traceparent(traceparent)
        carrier = {"traceparent": given} if given else {}
        context = TraceContextTextMapPropagator().extract(carrier)
        with self._open(name, SpanKind.SERVER, context) as note_status:
            yield note_status

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        with self._open(name, SpanKind.CLIENT):
            yield

    @contextmanager
    def _open(
        self, name: str, kind: SpanKind, context: Context | None = None
    ) -> Iterator[Callable[[int], None]]:
        """Open a span that is an error from status 500 on; the text of exceptions stays here."""
        with self._tracer.start_as_current_span(
            name, context=context, kind=kind, record_exception=False, set_status_on_exception=False
        ) as span:

            def note_status(status: int) -> None:
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    span.set_status(StatusCode.ERROR)

            try:
                yield note_status
            except RequestError as refusal:
                note_status(int(refusal.status))
                raise
            except Exception:
                note_status(HTTPStatus.INTERNAL_SERVER_ERROR)
                raise

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        inject(carrier)
        return carrier.get("traceparent")

    def close(self) -> None:
        self._provider.shutdown()
