"""What the worker tells Prometheus, all of it: names, help texts and units are in this file."""

from collections.abc import Mapping

import torch
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class WorkerMetrics:
    """The metrics of one worker process, in a registry of their own.

    Args:
        model: labels of the bundle that is served, such as its digest.
        device: where the networks run.
    """

    def __init__(self, model: Mapping[str, str], *, device: torch.device) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(namespace="npe_worker", registry=registry)
        Info("npe_model", "The bundle that is served.", registry=registry).info(dict(model))
        self.requests = Counter(
            "npe_worker_requests",
            "Requests answered, by operation and HTTP status.",
            ["operation", "status"],
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "npe_worker_stage_seconds",
            "Seconds an answered request spent in a stage; those of a batch share its time.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_wait_seconds = Histogram(
            "npe_worker_queue_wait_seconds",
            "Seconds from the gateway's sending a request to the worker's taking it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "npe_worker_batch_size",
            "Requests taken at a time.",
            buckets=_BATCH_SIZES,
            registry=registry,
        )
        self.steps_computed = Counter(
            "npe_worker_steps_computed",
            "Denoising steps computed, of all variations.",
            registry=registry,
        )
        self.steps_saved = Counter(
            "npe_worker_steps_saved",
            "Denoising steps not computed because a request was canceled or too late.",
            ["reason"],
            registry=registry,
        )
        self.network_seconds = Counter(
            "npe_worker_network_seconds",
            "Seconds in which a network computed.",
            ["network"],
            registry=registry,
        )
        for reason in ("canceled", "deadline"):
            self.steps_saved.labels(reason)
        if device.type == "cuda":
            self._add_gpu_memory(device)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _add_gpu_memory(self, device: torch.device) -> None:
        memory = Gauge(
            "npe_worker_gpu_memory_bytes",
            "GPU memory in bytes: allocated by tensors now and at most, and reserved.",
            ["kind"],
            registry=self._registry,
        )
        memory.labels("allocated").set_function(lambda: torch.cuda.memory_allocated(device))
        memory.labels("peak").set_function(lambda: torch.cuda.max_memory_allocated(device))
        memory.labels("reserved").set_function(lambda: torch.cuda.memory_reserved(device))
