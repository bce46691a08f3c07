"""The real pipeline and the real control server: cancellation, deadlines, previews, metrics."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor

from neural_photo_editor.api.errors import RequestError, internal_error
from neural_photo_editor.api.schema import EditResult, SegmentRequest, UpscaleRequest
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.serving.edit_worker import DEVICE_LOST, EditWorker
from neural_photo_editor.serving.options import ControlAddress
from neural_photo_editor.serving.ticket import Ticket
from tests.unit.editing.tiny_pipeline import TowardsPaint, edit_request, make_photo, make_pipeline

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "worker.md"
ONE, OTHER = "1" * 32, "2" * 32
NOW = 1_000_000.0
PAINT: dict[str, Any] = {"color": "#30c060", "strength": 0.6}


class Watched(TowardsPaint):
    """Calls back before each network call."""

    def __init__(self, before_call: Callable[[int], None]) -> None:
        super().__init__()
        self.before_call = before_call

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.before_call(len(self.batch_sizes) + 1)
        return super().forward(x_t, t)


def edits() -> list[Any]:
    photo = make_photo()
    return [
        edit_request(photo, steps=4, **PAINT),
        edit_request(photo, steps=20, seed=2, variations=2, response="json", **PAINT),
        edit_request(photo, steps=6, seed=3, **PAINT),
    ]


def worker_of(pipeline: EditPipeline | None = None, clock: Any = lambda: NOW) -> EditWorker:
    return EditWorker(pipeline or make_pipeline(), model_name="editor", clock=clock)


def values(worker: EditWorker) -> dict[str, float]:
    """Return the samples by name, with the values of their labels."""
    families = text_string_to_metric_families(worker.metrics.render().decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def images(answers: list[Any]) -> list[tuple[bytes, ...]]:
    assert all(isinstance(answer, EditResult) for answer in answers), answers
    return [answer.images for answer in answers]


def test_without_headers_all_is_as_in_the_pipeline() -> None:
    refused = internal_error()
    worker = worker_of()
    answers = worker.answer([*edits(), refused], [Ticket()] * 4)
    assert answers.pop() is refused
    assert images(answers) == images(make_pipeline().run(edits()))
    assert all("queue" not in answer.metadata.timings_ms for answer in answers)


def test_one_that_is_canceled_or_late_already_costs_nothing() -> None:
    worker = worker_of()
    worker.jobs.cancel(ONE)
    tickets = [Ticket(job_id=ONE), Ticket(job_id=OTHER, deadline=NOW - 1), Ticket()]
    canceled, late, good = worker.answer(edits(), tickets)
    assert isinstance(canceled, RequestError)
    assert isinstance(late, RequestError)
    assert (canceled.status, late.status) == (409, 504)
    assert images([good]) == images(make_pipeline().run(edits()[2:]))
    assert sum(worker.pipeline.denoiser.batch_sizes) == 6  # type: ignore[arg-type]
    told = values(worker)
    assert told["npe_worker_steps_computed_total"] == 6
    assert told["npe_worker_steps_saved_total canceled"] == 4
    assert told["npe_worker_steps_saved_total deadline"] == 40


def test_a_job_canceled_on_the_way_ends_at_its_next_step_and_others_go_on() -> None:
    def cancel_in_fourth_round(call: int) -> None:
        if call == 3 * 4 + 1:  # Rounds of 4 calls, one for each variation; the fourth begins.
            worker.jobs.cancel(ONE)

    worker = worker_of(make_pipeline(denoiser=Watched(cancel_in_fourth_round)))
    first, canceled, last = worker.answer(edits(), [Ticket(), Ticket(job_id=ONE), Ticket()])
    assert isinstance(canceled, RequestError)
    assert canceled.status == 409
    assert images([first, last]) == images([*make_pipeline().run(edits())[::2]])
    told = values(worker)
    assert told["npe_worker_steps_computed_total"] == 4 + 2 * 4 + 6
    assert told["npe_worker_steps_saved_total canceled"] == 2 * 16


def test_a_deadline_that_passes_on_the_way_is_answered_504() -> None:
    now = [NOW]

    def take_a_second(call: int) -> None:
        now[0] += 1.0

    pipeline = make_pipeline(denoiser=Watched(take_a_second))
    worker = worker_of(pipeline, clock=lambda: now[0])
    request = edit_request(make_photo(), steps=20, **PAINT)
    late, again = worker.answer([request] * 2, [Ticket(deadline=NOW + 9.5), Ticket()])
    assert isinstance(late, RequestError)
    assert late.status == 504
    assert isinstance(again, EditResult)
    # Two calls a round: 5 rounds take 10 seconds.
    assert values(worker)["npe_worker_steps_saved_total deadline"] == 15


@pytest.mark.parametrize("request_type", [SegmentRequest, UpscaleRequest])
def test_other_operations_have_deadlines_too(request_type: Any) -> None:
    photo = edit_request(make_photo()).photo
    clock = iter([NOW, NOW, *[NOW + 9] * 99])  # Taken, decoded; then time is over.
    worker = worker_of(clock=lambda: next(clock))
    (late,) = worker.answer([request_type(photo=photo)], [Ticket(deadline=NOW + 5)])
    assert isinstance(late, RequestError)
    assert late.status == 504


def test_metrics_tell_what_was_done() -> None:
    worker = worker_of()
    photo = edit_request(make_photo()).photo
    requests = [*edits(), SegmentRequest(photo=photo), internal_error()]
    answers = worker.answer(requests, [Ticket(sent=NOW - 0.2)] * 5)
    for request, answer in zip(requests, answers, strict=True):
        worker.count(request, int(answer.status) if isinstance(answer, RequestError) else 200)
    told = values(worker)
    assert told["npe_worker_requests_total edit 200"] == 3
    assert told["npe_worker_requests_total segment 200"] == 1
    assert told["npe_worker_requests_total unknown 500"] == 1
    assert told["npe_worker_batch_size_sum"] == 5
    assert told["npe_worker_batch_size_count"] == 1
    assert told["npe_worker_queue_wait_seconds_count"] == 4
    assert told["npe_worker_queue_wait_seconds_sum"] == pytest.approx(0.8, abs=1e-6)
    assert told["npe_worker_steps_computed_total"] == 4 + 2 * 20 + 6
    assert told["npe_worker_stage_seconds_count diffuse"] == 3
    assert told["npe_worker_stage_seconds_count decode"] == 4
    assert told["npe_worker_network_seconds_total denoiser"] > 0
    assert told["npe_worker_network_seconds_total segmenter"] > 0
    assert told["npe_worker_process_resident_memory_bytes"] > 0
    assert told[f"npe_model_info {worker.pipeline.bundle_digest} editor"] == 1
    assert ("npe_worker_gpu_memory_bytes allocated" in told) == torch.cuda.is_available()
    for answer in answers[:3]:
        assert isinstance(answer, EditResult)
        assert answer.metadata.timings_ms["queue"] == pytest.approx(200.0, abs=0.01)


class Failing(TowardsPaint):
    """Fails as CUDA does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        raise torch.AcceleratorError(self.text)


def fail_with(text: str) -> RequestError:
    """Answer an edit whose denoiser fails; called in a process of its own, too."""
    worker = worker_of(make_pipeline(denoiser=Failing(text)))
    (answer,) = worker.answer(edits()[:1], [Ticket()])
    assert isinstance(answer, RequestError)
    return answer


def test_a_worker_without_a_sound_device_ends() -> None:
    code = f"from {__name__} import fail_with; fail_with('CUDA error: unspecified launch failure')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == DEVICE_LOST, done.stderr
    assert "the accelerator is lost" in done.stderr


def test_a_worker_without_memory_goes_on() -> None:
    assert fail_with("CUDA error: out of memory").status == 500


def test_a_clock_that_differs_makes_no_negative_wait() -> None:
    worker = worker_of()
    worker.answer(edits()[:1], [Ticket(sent=NOW + 5)])
    assert values(worker)["npe_worker_queue_wait_seconds_sum"] == 0.0


def test_previews_are_made_for_listeners_only(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([float(number) for number in range(10_000)])
    monkeypatch.setattr("neural_photo_editor.serving.edit_worker.time.monotonic", times.__next__)
    worker = worker_of()
    tickets = [Ticket(job_id=ONE), Ticket(job_id=OTHER), Ticket()]
    with worker.jobs.listen(ONE) as stream:
        worker.answer(edits(), tickets)
        seen = []
        while not stream.ended:
            seen.append(stream.next(timeout_s=60.0))
    assert [event.step for event in seen if event] == [1, 2, 3, 4]
    last = seen[-1]
    assert last is not None
    assert (last.total_steps, last.width, last.height) == (4, 64, 64)
    assert last.crop == (0, 0, 64, 64)
    assert last.square.shape == (32, 32, 3)
    # Anybody who comes later hears that it is over.
    with worker.jobs.listen(OTHER) as late:
        assert late.ended


def test_previews_come_at_most_eight_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each step takes 50 ms; a stream keeps the last four events.
    times = iter([number * 0.05 for number in range(10_000)])
    monkeypatch.setattr("neural_photo_editor.serving.edit_worker.time.monotonic", times.__next__)
    worker = worker_of()
    with worker.jobs.listen(ONE) as stream:
        request = edit_request(make_photo(), steps=8, **PAINT)
        worker.answer([request], [Ticket(job_id=ONE)])
        steps = []
        while not stream.ended:
            event = stream.next(timeout_s=60.0)
            assert event is not None
            steps.append(event.step)
    assert steps == [1, 4, 7, 8]


def test_over_http_previews_arrive_before_the_answer_and_a_job_is_canceled() -> None:
    seen: list[dict[str, Any]] = []

    def look_and_cancel(call: int) -> None:
        if call == 3:
            seen.append(json.loads(next(lines)))
            assert client.delete(f"/jobs/{ONE}").status_code == 202

    worker = worker_of(make_pipeline(denoiser=Watched(look_and_cancel)))
    server = worker.serve_control(ControlAddress("127.0.0.1", 0, None), max_batch=4)
    with (
        server,
        httpx.Client(base_url=server.url, timeout=60.0) as client,
        client.stream("GET", f"/jobs/{ONE}/events") as reply,
    ):
        lines = reply.iter_lines()
        request = edit_request(make_photo(), steps=20, **PAINT)
        (answer,) = worker.answer([request], [Ticket(job_id=ONE)])
        assert isinstance(answer, RequestError)
        assert answer.status == 409
        assert (seen[0]["step"], seen[0]["total_steps"]) == (1, 20)
        assert json.loads(list(lines)[-1]) == {"end": True}
        metrics = client.get("/metrics").text
    assert 'npe_worker_steps_saved_total{reason="canceled"} 17.0' in metrics


def test_the_documentation_lists_every_metric() -> None:
    documented = set(re.findall(r"`(npe_\w+?)(?:_\*)?`", DOCUMENTATION.read_text()))
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(worker_of().metrics.render().decode())
        if not family.name.endswith("_created")
    }
    process = {name for name in names if name.startswith("npe_worker_process_")}
    assert process
    on_a_gpu = set() if torch.cuda.is_available() else {"npe_worker_gpu_memory_bytes"}
    assert (names - process) | {"npe_worker_process"} == documented - on_a_gpu
