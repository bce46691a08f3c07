"""How long networks compute, apart from everything around them."""

import time
from collections.abc import Mapping

import torch
from torch import nn


class NetworkTime:
    """Adds up the time of every call of some networks, in whatever code the calls are made.

    On a GPU, where a call only enqueues work, the time is the GPU's own.

    Args:
        networks: by name.
        device: where they all run.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self._device = device
        self._seconds = dict.fromkeys(networks, 0.0)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        for name, network in networks.items():
            self._watch(name, network)

    def seconds(self) -> dict[str, float]:
        """Return each network's time so far; on a GPU, waits until it has done what it was told."""
        if self._events:
            torch.cuda.synchronize(self._device)
        for name, start, end in self._events:
            self._seconds[name] += start.elapsed_time(end) / 1000.0
        self._events.clear()
        return dict(self._seconds)

    def total(self) -> float:
        """Return the time of all networks together, in seconds."""
        return sum(self.seconds().values())

    def _watch(self, name: str, network: nn.Module) -> None:
        on_gpu = self._device.type == "cuda"
        started: list[float] = []
        begun: list[torch.cuda.Event] = []

        def before(*_: object) -> None:
            if on_gpu:
                begun[:] = [_now_on(self._device)]
            else:
                started[:] = [time.perf_counter()]

        def after(*_: object) -> None:
            if on_gpu:
                self._events.append((name, begun[0], _now_on(self._device)))
            else:
                self._seconds[name] += time.perf_counter() - started[0]

        network.register_forward_pre_hook(before)
        network.register_forward_hook(after)


def _now_on(device: torch.device) -> torch.cuda.Event:
    event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
