"""Traces: with OpenTelemetry where an endpoint is configured, else the caller's id is passed on."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol

from fastapi.telemetry import TelemetryConfig

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# FastAPI's own, which the environment can turn on, would export the text of exceptions.
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Tracing(Protocol):
    def request(
        self, name: str, traceparent: str | None
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open the span of a whole request, below the caller's where it names one.

        Returns:
            a context manager; what it enters takes the HTTP status of the answer.
        """

    def span(self, name: str) -> AbstractContextManager[None]:
        """Open a span below the current one."""

    def traceparent(self) -> str | None:
        """Return the W3C header that makes another server's span a child of the current one."""

    def close(self) -> None:
        """Send what has not been sent."""


class NoTracing:
    """Records nothing; hands the caller's traceparent through."""

    def __init__(self) -> None:
        self._given: ContextVar[str | None] = ContextVar("traceparent", default=None)

    @contextmanager
    def request(
        self,
        name: str,  # noqa: ARG002
        traceparent: str | None,
    ) -> Iterator[Callable[[int], None]]:
        token = self._given.set(clean_traceparent(traceparent))
        try:
            yield lambda status: None  # noqa: ARG005
        finally:
            self._given.reset(token)

    def span(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def traceparent(self) -> str | None:
        return self._given.get()

    def close(self) -> None:
        pass


def clean_traceparent(value: str | None) -> str | None:
    """Return a W3C traceparent, or None for anything else."""
    return value if value is not None and _TRACEPARENT.fullmatch(value) else None


def create_tracing() -> Tracing:
    """Return OpenTelemetry's tracing if the environment names an endpoint, else none."""
    if any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        from serve.gateway.otel import OpenTelemetryTracing

        return OpenTelemetryTracing()
    return NoTracing()
