"""The networks' own time is told apart from the rest."""

import time

import pytest
import torch
from torch import Tensor, nn

from neural_photo_editor.api.schema import SegmentRequest, UpscaleRequest
from neural_photo_editor.editing.network_time import NetworkTime
from tests.unit.editing.tiny_pipeline import (
    answer_one,
    edit_request,
    make_photo,
    make_pipeline,
)


class Slow(nn.Module):
    """Takes exactly as long as the clock of the test says."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.clock[0] += self.seconds
        return x


def test_calls_add_up_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    fast, slow = Slow(clock, 0.25), Slow(clock, 2.0)
    times = NetworkTime({"fast": fast, "slow": slow}, torch.device("cpu"))
    for _ in range(4):
        fast(torch.zeros(1))
        clock[0] += 10.0  # Something else.
    slow(torch.zeros(1))
    assert times.seconds() == {"fast": 1.0, "slow": 2.0}
    assert times.in_this_thread() == 3.0


@pytest.mark.parametrize("operation", ["edit", "segment", "upscale"])
def test_a_result_says_what_the_networks_took(operation: str) -> None:
    photo = make_photo()
    edit = edit_request(photo)
    request = {
        "edit": edit,
        "segment": SegmentRequest(photo=edit.photo),
        "upscale": UpscaleRequest(photo=edit.photo),
    }[operation]
    pipeline = make_pipeline()
    timings = answer_one(pipeline, request).metadata.timings_ms
    networks = timings.pop("networks")
    assert 0 < networks < sum(timings.values())
    assert networks == pytest.approx(pipeline.network_time.in_this_thread() * 1000.0, abs=0.01)
