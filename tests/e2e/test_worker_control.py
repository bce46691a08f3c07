"""A real TorchServe and the control server of its worker: previews, cancellation, deadlines."""

import base64
import io
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.torchserve_process import TorchServeProcess

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PHOTO = encode_png(generate_portrait(seed=5, index=0, resolution=96).photo)
MASK = np.zeros((96, 96), np.uint8)
MASK[20:60, 30:70] = 255
FILES = {"photo": ("photo.png", PHOTO), "mask": ("mask.png", encode_png(MASK))}
# 1,000 network calls: seconds, in which a test does what it does within one step.
LONG = {"operation": "edit", "timestep": "500", "steps": "500", "resamples": "2", "seed": "1"}
SHORT = {"operation": "edit", "strength": "0.5", "steps": "3", "seed": "1"}


@pytest.fixture(scope="module")
def served(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NPE_CONTROL_TOKEN", TOKEN)
        workdir = tmp_path_factory.mktemp("controlled")
        with TorchServeProcess(tiny_archive, workdir=workdir) as process:
            yield process


@pytest.fixture
def control(served: TorchServeProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.control_url, headers=BEARER, timeout=120.0) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def send(
    served: TorchServeProcess, fields: dict[str, str], headers: dict[str, str] | None = None
) -> httpx.Response:
    url = f"{served.inference_url}/predictions/{served.model}"
    return httpx.post(url, data=fields, files=FILES, headers=headers, timeout=240.0)


def start(
    pool: ThreadPoolExecutor, served: TorchServeProcess, fields: dict[str, str], job_id: str
) -> "Future[httpx.Response]":
    return pool.submit(send, served, fields, {"X-NPE-Request-Id": job_id})


def values(control: httpx.Client) -> dict[str, float]:
    families = text_string_to_metric_families(control.get("/metrics").text)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_ready_says_what_is_served(served: TorchServeProcess) -> None:
    ready = httpx.get(f"{served.control_url}/ready").json()
    answer = send(served, SHORT)
    metadata = json.loads(answer.headers["x-npe-metadata"])
    assert ready["bundle_digest"] == metadata["bundle_digest"]
    assert (ready["resolution"], ready["max_batch"], ready["licenses"]) == (32, 4, [])
    assert ready["defaults"]["steps"] == 4
    assert "queue" not in metadata["timings_ms"]


def test_jobs_need_the_token(served: TorchServeProcess) -> None:
    job_id = uuid.uuid4().hex
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}):
        for method, path in (("DELETE", f"/jobs/{job_id}"), ("GET", f"/jobs/{job_id}/events")):
            reply = httpx.request(method, served.control_url + path, headers=headers)
            assert reply.status_code == 401
    # It was not canceled.
    assert send(served, SHORT, {"X-NPE-Request-Id": job_id}).status_code == 200


def test_previews_arrive_while_denoising_and_a_cancellation_ends_it(
    served: TorchServeProcess, control: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    job_id = uuid.uuid4().hex
    before = values(control)
    with control.stream("GET", f"/jobs/{job_id}/events") as reply:
        lines = reply.iter_lines()
        answer = start(pool, served, LONG, job_id)
        event: dict[str, Any] = json.loads(next(lines))
        assert not answer.done()
        assert control.delete(f"/jobs/{job_id}").status_code == 202
        canceled = answer.result(timeout=240)
        *_, last = lines
    assert canceled.status_code == 409
    assert canceled.headers["content-type"] == "application/problem+json"
    assert json.loads(last) == {"end": True}
    assert (event["total_steps"], event["width"], event["height"]) == (999, 96, 96)
    with Image.open(io.BytesIO(base64.b64decode(event["preview"]))) as image:
        assert (image.format, image.size) == ("WEBP", (32, 32))
    after = values(control)
    computed, saved = (
        after[name] - before[name]
        for name in ("npe_worker_steps_computed_total", "npe_worker_steps_saved_total canceled")
    )
    assert computed + saved == 999
    assert saved > 0
    name = "npe_worker_requests_total edit 409"
    assert after[name] - before.get(name, 0) == 1


def test_others_of_its_batch_do_not_notice(
    served: TorchServeProcess, control: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    """A long edit keeps the worker busy, so that three others wait and come together."""
    alone = send(served, {**SHORT, "steps": "5"})
    blocker, unwanted = uuid.uuid4().hex, uuid.uuid4().hex
    large = "npe_worker_batch_size_bucket 2.0"
    before = values(control)
    with control.stream("GET", f"/jobs/{blocker}/events") as reply:
        lines = reply.iter_lines()
        first = start(pool, served, {**LONG, "resamples": "1"}, blocker)
        next(lines)
        with control.stream("GET", f"/jobs/{unwanted}/events") as other_reply:
            waiting = [
                start(pool, served, {**SHORT, "steps": "5"}, uuid.uuid4().hex),
                start(pool, served, LONG, unwanted),
                start(pool, served, {**SHORT, "steps": "5"}, uuid.uuid4().hex),
            ]
            assert first.result(timeout=240).status_code == 200
            next(other_reply.iter_lines())
            control.delete(f"/jobs/{unwanted}")
    replies = [future.result(timeout=240) for future in waiting]
    assert [reply.status_code for reply in replies] == [200, 409, 200]
    assert replies[0].content == replies[2].content == alone.content
    after = values(control)
    batches = after["npe_worker_batch_size_count"] - before["npe_worker_batch_size_count"]
    assert batches - (after[large] - before[large]) == 1, "they did not come together"
    assert (
        after["npe_worker_steps_saved_total canceled"]
        > (before["npe_worker_steps_saved_total canceled"])
    )


def test_a_job_canceled_before_it_comes_costs_nothing(
    served: TorchServeProcess, control: httpx.Client
) -> None:
    job_id = uuid.uuid4().hex
    before = values(control)["npe_worker_steps_computed_total"]
    control.delete(f"/jobs/{job_id}")
    assert send(served, LONG, {"X-NPE-Request-Id": job_id}).status_code == 409
    assert values(control)["npe_worker_steps_computed_total"] == before


def test_deadlines_are_kept_before_and_during_an_edit(
    served: TorchServeProcess, control: httpx.Client
) -> None:
    before = values(control)
    late = send(served, LONG, {"X-NPE-Deadline": repr(time.time() - 1.0)})
    assert late.status_code == 504
    between = values(control)
    name = "npe_worker_steps_computed_total"
    assert between[name] == before[name]

    # On a busy machine a short time is over before the first step.
    for patience_s in (0.25 * 1.5**number for number in range(12)):
        sent = time.time()
        late = send(
            served, LONG, {"X-NPE-Deadline": repr(sent + patience_s), "X-NPE-Sent": repr(sent)}
        )
        assert late.status_code == 504
        assert late.json()["status"] == 504
        after = values(control)
        if after[name] > between[name]:
            break
    assert 0 < after[name] - between[name] < 999
    assert (
        after["npe_worker_steps_saved_total deadline"]
        > (between["npe_worker_steps_saved_total deadline"])
    )
    waits = "npe_worker_queue_wait_seconds_count"
    assert after[waits] > between[waits]


def test_an_answer_says_how_long_it_waited(served: TorchServeProcess) -> None:
    reply = send(served, SHORT, {"X-NPE-Sent": repr(time.time() - 2.0)})
    timings_ms = json.loads(reply.headers["x-npe-metadata"])["timings_ms"]
    assert timings_ms["queue"] >= 2000.0
    assert 0 < timings_ms["networks"] < sum(timings_ms.values()) - timings_ms["queue"]
