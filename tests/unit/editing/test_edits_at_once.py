"""Several edits at a time on a CPU: the same bytes, each with its own progress and failures."""

import threading

import pytest
from torch import Tensor, nn

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, SegmentRequest
from neural_photo_editor.editing.progress import EditProgress
from tests.unit.editing.tiny_pipeline import (
    TowardsPaint,
    edit_request,
    make_photo,
    make_pipeline,
    random_networks,
)


class Meeting(nn.Module):
    """Computes once two threads are in it, if they ever are."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TowardsPaint()
        self.barrier = threading.Barrier(2, timeout=60)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.barrier.wait()
        result: Tensor = self.inner(x_t, t)
        return result


def edits(count: int) -> list[EditRequest]:
    """Return edits of one photo, each with its own seed and strength."""
    photo = make_photo()
    return [edit_request(photo, seed=n, color="#c04020", strength=0.3) for n in range(count)]


def test_two_edits_are_computed_at_the_same_time() -> None:
    answers = make_pipeline(denoiser=Meeting(), edits_at_once=2).run(edits(2))
    assert not any(isinstance(answer, RequestError) for answer in answers)


def test_one_at_a_time_never_meets_another() -> None:
    denoiser = Meeting()
    denoiser.barrier = threading.Barrier(2, timeout=0.2)
    answers = make_pipeline(denoiser=denoiser).run(edits(2))
    assert all(isinstance(answer, RequestError) and answer.status == 500 for answer in answers)


def test_the_bytes_are_those_of_one_after_the_other() -> None:
    requests = [*edits(6), SegmentRequest(photo=edits(1)[0].photo)]
    alone = make_pipeline(**random_networks()).run(requests)
    at_once = make_pipeline(**random_networks(), edits_at_once=3).run(requests)
    assert [getattr(answer, "image", None) for answer in at_once] == [
        getattr(answer, "image", None) for answer in alone
    ]
    assert all(getattr(answer, "image", None) for answer in alone)


def test_each_has_its_own_progress_failure_and_network_time() -> None:
    requests = edits(4)
    requests[1] = requests[1].model_copy(update={"photo": b"no photo"})
    steps: dict[int, list[int]] = {}

    def on_progress(position: int, progress: EditProgress) -> bool:
        steps.setdefault(position, []).append(progress.step)
        return not (position == 2 and progress.step == 2)

    pipeline = make_pipeline(**random_networks(), edits_at_once=2)
    answers = pipeline.run(requests, on_progress)
    statuses = [answer.status if isinstance(answer, RequestError) else 200 for answer in answers]
    assert statuses == [200, 415, 409, 200]
    assert steps == {0: [1, 2, 3, 4, 5], 2: [1, 2], 3: [1, 2, 3, 4, 5]}
    own_ms = [
        answer.metadata.timings_ms["networks"]
        for answer in answers
        if not isinstance(answer, RequestError)
    ]
    assert 0 < sum(own_ms) < 1000.0 * sum(pipeline.network_time.seconds().values())


def test_a_gpu_computes_edits_together() -> None:
    with pytest.raises(ValueError, match="edits_at_once is 2, and the device cuda"):
        make_pipeline(edits_at_once=2, device="cuda")
