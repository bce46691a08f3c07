"""A real control server on loopback, asked by a real HTTP client and by sockets that misbehave."""

import base64
import io
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.serving.control_server import ControlServer
from neural_photo_editor.serving.job_registry import JobRegistry
from neural_photo_editor.serving.previews import Preview

ONE = "0123456789abcdef" * 2
INFO = {"bundle_digest": "d" * 64, "resolution": 64}
TOKEN = "a-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def preview(step: int) -> Preview:
    square = np.full((32, 32, 3), (200, 60, 20), np.uint8)
    return Preview(step, 9, (-4, 0, 60, 64), 80, 64, square)


@pytest.fixture
def jobs() -> JobRegistry:
    return JobRegistry(max_streams=3)


@pytest.fixture
def control(jobs: JobRegistry) -> Iterator[httpx.Client]:
    with (
        ControlServer(jobs, info=INFO, metrics=lambda: b"npe_up 1\n", token=TOKEN) as server,
        httpx.Client(base_url=server.url, timeout=60.0) as client,
    ):
        yield client


def lines(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in reply.iter_lines())


def test_readiness_and_metrics_need_no_token(control: httpx.Client) -> None:
    ready = control.get("/ready")
    assert (ready.status_code, ready.json()) == (200, INFO)
    metrics = control.get("/metrics")
    assert metrics.text == "npe_up 1\n"
    assert metrics.headers["content-type"].startswith("text/plain")


def test_a_worker_that_is_to_stop_is_ready_no_more(
    control: httpx.Client, jobs: JobRegistry
) -> None:
    assert control.post("/drain").status_code == 401
    assert control.get("/ready").status_code == 200
    with jobs.working_on(2):
        reply = control.post("/drain", headers=BEARER)
        assert (reply.status_code, reply.json()) == (202, {"in_flight": 2})
    assert control.get("/ready").status_code == 503
    assert control.post("/drain", headers=BEARER).json() == {"in_flight": 0}


def test_previews_arrive_while_the_job_runs(control: httpx.Client, jobs: JobRegistry) -> None:
    with control.stream("GET", f"/jobs/{ONE}/events", headers=BEARER) as reply:
        assert reply.headers["content-type"] == "application/x-ndjson"
        events = lines(reply)
        # The headers came: it listens already, before the job.
        jobs.begin(ONE)
        for step in (1, 2):
            jobs.publish(ONE, preview(step))
            event = next(events)
            square = event.pop("preview")
            assert event == {
                "step": step, "total_steps": 9, "crop": [-4, 0, 60, 64], "width": 80, "height": 64
            }  # fmt: skip
        with Image.open(io.BytesIO(base64.b64decode(square))) as image:
            assert (image.format, image.size) == ("WEBP", (32, 32))
            assert np.abs(np.asarray(image, int) - (200, 60, 20)).max() < 12
        jobs.end(ONE)
        assert list(events) == [{"end": True}]


def test_a_canceled_job_ends_the_stream(control: httpx.Client, jobs: JobRegistry) -> None:
    with control.stream("GET", f"/jobs/{ONE}/events", headers=BEARER) as reply:
        assert control.delete(f"/jobs/{ONE.upper()}", headers=BEARER).status_code == 202
        assert list(lines(reply)) == [{"end": True}]
    assert jobs.is_canceled(ONE)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer a-secre", "Bearer a-secret2", "a-secret", "Bearer ä"]
)
def test_jobs_need_the_token(control: httpx.Client, jobs: JobRegistry, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode())]
    for method, path in (("DELETE", f"/jobs/{ONE}"), ("GET", f"/jobs/{ONE}/events")):
        reply = control.request(method, path, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["status"] == 401
        assert TOKEN not in reply.text
    assert not jobs.is_canceled(ONE)


def test_without_a_token_nothing_is_asked_for(jobs: JobRegistry) -> None:
    with ControlServer(jobs, info=INFO, metrics=lambda: b"") as server:
        assert httpx.delete(f"{server.url}/jobs/{ONE}").status_code == 202
        assert server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/jobs/1234", 422),
        ("DELETE", "/jobs/" + "z" * 32, 422),
        ("DELETE", f"/jobs/{ONE}/events", 404),
        ("GET", f"/jobs/{ONE}", 404),
        ("GET", f"/jobs/{ONE}/events/more", 404),
        ("GET", "/jobs/../events", 404),
        ("GET", "/", 404),
        ("DELETE", "/ready", 404),
        ("POST", "/ready", 404),
        ("PUT", "/ready", 501),
        ("GET", "/jobs/" + "1" * 60_000, 422),
    ],
)
def test_what_is_not_there_is_refused(
    control: httpx.Client, method: str, path: str, status: int
) -> None:
    reply = control.request(method, path, headers=BEARER)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == status
    assert control.get("/ready").status_code == 200


def test_bodies_are_refused_unread(control: httpx.Client) -> None:
    for body in (b"x" * 10, iter([b"x", b"y"])):
        reply = control.request("DELETE", f"/jobs/{ONE}", content=body, headers=BEARER)
        assert reply.status_code == 413


def test_listeners_are_limited_and_those_that_leave_are_noticed(
    control: httpx.Client, jobs: JobRegistry
) -> None:
    path = f"/jobs/{ONE}/events"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(control.stream("GET", path, headers=BEARER))
        assert control.get(path, headers=BEARER).status_code == 503
    # Nothing is sent to them, and yet their places become free.
    while jobs.has_listeners(ONE):
        time.sleep(0.01)
    with control.stream("GET", path, headers=BEARER) as reply:
        jobs.end(ONE)
        assert list(lines(reply)) == [{"end": True}]


def test_a_listener_that_never_reads_holds_up_neither_the_job_nor_others(
    control: httpx.Client, jobs: JobRegistry
) -> None:
    path = f"/jobs/{ONE}/events"
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    with socket.create_connection((control.base_url.host, control.base_url.port)) as deaf:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        deaf.sendall(request.encode())
        deaf.recv(1)  # The head: it listens.
        with control.stream("GET", path, headers=BEARER) as reply:
            events = lines(reply)
            for step in range(1, 101):  # 6 MB, more than the system keeps for the one that is deaf
                jobs.publish(ONE, Preview(step, 100, (0, 0, 9, 9), 9, 9, noise))
                assert next(events)["step"] == step
            jobs.end(ONE)
            assert list(events) == [{"end": True}]


def test_sockets_that_say_nothing_keep_nobody_out(control: httpx.Client) -> None:
    address = control.base_url.host, control.base_url.port
    with ExitStack() as stack:
        for _ in range(50):
            idle = stack.enter_context(socket.create_connection(address))
            idle.sendall(b"GET /ready HTTP/1.1\r\nHost")
        with ThreadPoolExecutor(8) as pool:
            replies = pool.map(lambda _: control.get("/ready").status_code, range(32))
            assert set(replies) == {200}


def test_a_port_in_use_is_an_error_at_the_start(jobs: JobRegistry) -> None:
    with ControlServer(jobs, info=INFO, metrics=lambda: b"") as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"):
            ControlServer(jobs, info=INFO, metrics=lambda: b"", port=port).start()
