"""How long networks compute, apart from everything around them."""

import time
from collections.abc import Mapping
from threading import Lock, local

import torch
from torch import nn


class NetworkTime:
    """Adds up the time of every call of some networks, in whatever code the calls are made.

    On a CPU several threads may call them. On a GPU, where a call only enqueues work, the time is
    the GPU's own, and one thread makes all calls.

    Args:
        networks: by name.
        device: where they all run.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self._device = device
        self._seconds = dict.fromkeys(networks, 0.0)
        self._lock = Lock()
        self._thread = local()
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        for name, network in networks.items():
            self._watch(name, network)

    def seconds(self) -> dict[str, float]:
        """Return each network's time so far; on a GPU, waits until it has done what it was told."""
        if self._events:
            torch.cuda.synchronize(self._device)
        for name, start, end in self._events:
            self._add(name, start.elapsed_time(end) / 1000.0)
        self._events.clear()
        with self._lock:
            return dict(self._seconds)

    def in_this_thread(self) -> float:
        """Return the time of all networks together in calls of this thread, in seconds."""
        self.seconds()
        return float(getattr(self._thread, "seconds", 0.0))

    def _add(self, name: str, seconds: float) -> None:
        self._thread.seconds = getattr(self._thread, "seconds", 0.0) + seconds
        with self._lock:
            self._seconds[name] += seconds

    def _watch(self, name: str, network: nn.Module) -> None:
        on_gpu = self._device.type == "cuda"
        begun = local()

        def before(*_: object) -> None:
            begun.at = _now_on(self._device) if on_gpu else time.perf_counter()

        def after(*_: object) -> None:
            if on_gpu:
                self._events.append((name, begun.at, _now_on(self._device)))
            else:
                self._add(name, time.perf_counter() - begun.at)

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)


def _now_on(device: torch.device) -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
