"""What the gateway counts, in Prometheus' form, in a registry of its own."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.gateway.backends import BackendState

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class GatewayMetrics:
    """Counters of one gateway.

    Attributes:
        requests: answered requests by operation, status and channel (empty: none was asked).
        latency: seconds from a request's head to the end of its answer, by operation.
        refusals: requests turned away by the gateway itself, by reason.
        retries: requests sent to a backend again, by reason.
        canceled: requests whose client left before the answer.
        upload_bytes: bytes of request bodies read.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "npe_gateway_requests",
            "Answered requests",
            ("operation", "status", "channel"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "npe_gateway_request_seconds",
            "Seconds from a request's head to the end of its answer",
            ("operation",),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.refusals = Counter(
            "npe_gateway_refusals",
            "Requests turned away by the gateway itself",
            ("reason",),
            registry=self.registry,
        )
        self.retries = Counter(
            "npe_gateway_retries",
            "Requests sent to a backend again",
            ("reason",),
            registry=self.registry,
        )
        self.canceled = Counter(
            "npe_gateway_canceled",
            "Requests whose client left before the answer",
            registry=self.registry,
        )
        self.upload_bytes = Counter(
            "npe_gateway_upload_bytes", "Bytes of request bodies read", registry=self.registry
        )

    def watch_backends(self, states: Callable[[], Iterable[BackendState]]) -> None:
        """Report the backends, as they are at each look, from now on."""
        self.registry.register(_BackendCollector(states))

    def render(self) -> bytes:
        """Return everything as Prometheus text."""
        return generate_latest(self.registry)


class _BackendCollector(Collector):
    def __init__(self, states: Callable[[], Iterable[BackendState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        labels = ("url", "channel")
        ready = GaugeMetricFamily("npe_gateway_backend_ready", "1 if ready", labels=labels)
        in_flight = GaugeMetricFamily(
            "npe_gateway_backend_in_flight", "Requests at the backend", labels=labels
        )
        info = GaugeMetricFamily(
            "npe_gateway_bundle_info",
            "1 for the bundle that a backend serves",
            labels=(*labels, "bundle_digest"),
        )
        total = 0
        for state in self._states():
            total += state.in_flight
            ready.add_metric((state.url, state.channel), float(state.ready))
            in_flight.add_metric((state.url, state.channel), state.in_flight)
            if state.bundle_digest:
                info.add_metric((state.url, state.channel, state.bundle_digest), 1)
        overall = GaugeMetricFamily("npe_gateway_in_flight", "Requests at all backends", total)
        return ready, in_flight, info, overall
