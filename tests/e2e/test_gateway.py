"""The gateway as a process in front of a real TorchServe: edits, events, failures, draining."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from neural_photo_editor.api.client import EditClient
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.envelope import read_result
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import GatewayProcess, route_to, running_gateway

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-the-test"
PHOTO = encode_png(generate_portrait(seed=5, index=0, resolution=96).photo)
MASK = np.zeros((96, 96), np.uint8)
MASK[20:60, 30:70] = 255
FILES = {"photo": ("my-face.png", PHOTO), "mask": ("my-mask.png", encode_png(MASK))}
SHORT = {"strength": "0.5", "steps": "3", "seed": "1"}
# 600 network calls: seconds, in which a test does what it does.
LONG = {"timestep": "500", "steps": "300", "resamples": "2", "seed": "1"}
MEDIUM = {**LONG, "steps": "150"}
ACCEPT_EVENTS = {"accept": "text/event-stream"}


@pytest.fixture(scope="module")
def torchserve(
    tiny_archive: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServeProcess]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NPE_CONTROL_TOKEN", TOKEN)
        workdir = tmp_path_factory.mktemp("behind")
        with TorchServeProcess(tiny_archive, workdir=workdir) as process:
            yield process


@pytest.fixture(scope="module")
def gateway(
    torchserve: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NPE_CONTROL_TOKEN", TOKEN)
        routes = Routes(production=(route_to(torchserve),))
        limits = {"head_timeout_s": 1.0, "rate_grace_s": 1.0, "body_timeout_s": 1.0}
        folder = tmp_path_factory.mktemp("gateway")
        with running_gateway(folder, routes, "--no-keys", **limits) as process:
            process.wait_until_ready()
            yield process


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def edit(gateway: GatewayProcess, fields: dict[str, str]) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/edit", data=fields, files=FILES, timeout=120.0)


def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_flight(gateway: GatewayProcess) -> int:
    return int(httpx.get(f"{gateway.internal_url}/backends").json()[0]["in_flight"])


def worker_metric(torchserve: TorchServeProcess, start: str) -> float:
    lines = httpx.get(f"{torchserve.control_url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_an_edit_is_that_of_the_worker_itself(
    gateway: GatewayProcess, torchserve: TorchServeProcess
) -> None:
    direct = EditClient(torchserve.inference_url, model=torchserve.model).edit(
        PHOTO, mask=MASK > 0, **numbers(SHORT)
    )
    reply = edit(gateway, SHORT)
    assert reply.status_code == 200
    result = read_result("edit", reply.headers, reply.content)
    assert result.image == direct.image
    assert result.metadata.bundle_digest == direct.metadata.bundle_digest
    assert reply.headers["x-npe-bundle"] == direct.metadata.bundle_digest
    assert reply.headers["x-npe-channel"] == "production"


def numbers(fields: dict[str, str]) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in fields.items()}


def test_segment_and_upscale(gateway: GatewayProcess) -> None:
    for operation in ("segment", "upscale"):
        files = {"photo": FILES["photo"]}
        reply = httpx.post(f"{gateway.url}/v1/{operation}", files=files, timeout=60.0)
        assert read_result(operation, reply.headers, reply.content).metadata.width > 0


def test_what_only_the_worker_can_tell_is_refused_by_it(gateway: GatewayProcess) -> None:
    small = encode_png(np.full((64, 64), 255, np.uint8))
    reply = httpx.post(f"{gateway.url}/v1/edit", files={**FILES, "mask": small}, timeout=60.0)
    assert (reply.status_code, reply.json()["field"]) == (422, "mask")


def test_previews_and_then_the_result(gateway: GatewayProcess) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    stream = httpx.stream(
        "POST", f"{gateway.url}/v1/edit", data=LONG, files=FILES, headers=ACCEPT_EVENTS, timeout=120
    )
    with stream as reply:
        assert reply.headers["content-type"] == "text/event-stream"
        name = ""
        for line in reply.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    names = [name for name, _ in events]
    assert names[-1] == "result"
    assert set(names[:-1]) == {"progress"}
    steps = [event["step"] for name, event in events if name == "progress"]
    assert len(steps) >= 2
    assert steps == sorted(set(steps))
    assert events[0][1]["total_steps"] >= 598
    assert len(events[0][1]["crop"]) == 4
    assert events[-1][1]["metadata"]["seed"] == 1


@pytest.mark.parametrize("headers", [{}, ACCEPT_EVENTS])
def test_work_ends_when_its_client_leaves(
    gateway: GatewayProcess, torchserve: TorchServeProcess, headers: dict[str, str]
) -> None:
    saved_before = worker_metric(torchserve, 'npe_worker_steps_saved_total{reason="canceled"}')
    computed_before = worker_metric(torchserve, "npe_worker_steps_computed_total")
    with connect(gateway) as client:
        client.sendall(raw_edit(gateway, LONG, headers))
        until(lambda: in_flight(gateway) == 1)
    until(lambda: in_flight(gateway) == 0, within_s=10.0)
    saved = worker_metric(torchserve, 'npe_worker_steps_saved_total{reason="canceled"}')
    computed = worker_metric(torchserve, "npe_worker_steps_computed_total")
    assert saved - saved_before > 0
    assert computed - computed_before < 500


def raw_edit(gateway: GatewayProcess, fields: dict[str, str], headers: dict[str, str]) -> bytes:
    request = httpx.Request("POST", gateway.url, data=fields, files=FILES, headers=headers)
    body = request.read()
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /v1/edit HTTP/1.1\r\n{lines}\r\n".encode() + body


def test_slow_sockets_are_cut_and_others_answered(gateway: GatewayProcess) -> None:
    head = b"POST /v1/edit HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(gateway)) for _ in range(200)]
        for number, one in enumerate(slow):
            one.sendall(head if number % 2 else head + b"Content-Length: 9000\r\n\r\n{")
        assert {edit(gateway, SHORT).status_code for _ in range(5)} == {200}
        endings = [read_all(one) for one in slow]
        # Those without a whole head are cut without a word, the others are told why.
        assert set(endings[1::2]) == {b""}
        assert any(b"408 Request Timeout" in ending for ending in endings[::2])
    assert edit(gateway, SHORT).status_code == 200


def connect(gateway: GatewayProcess) -> socket.socket:
    url = httpx.URL(gateway.url)
    assert url.port is not None
    return socket.create_connection((url.host, url.port), timeout=20.0)


def read_all(one: socket.socket) -> bytes:
    received = b""
    try:
        while data := one.recv(4096):
            received += data
    except ConnectionResetError:
        pass
    return received


def test_requests_are_answered_though_their_worker_is_killed(
    gateway: GatewayProcess, torchserve: TorchServeProcess, pool: ThreadPoolExecutor
) -> None:
    expected = edit(gateway, MEDIUM).content
    pid = torchserve.workers()[0]["pid"]
    replies = [pool.submit(edit, gateway, MEDIUM), pool.submit(edit, gateway, SHORT)]
    until(lambda: in_flight(gateway) == 2)
    os.kill(pid, signal.SIGKILL)
    long, short = (reply.result() for reply in replies)
    assert (long.status_code, short.status_code) == (200, 200)
    assert long.content == expected
    gateway.wait_until_ready()
    assert torchserve.workers()[0]["pid"] != pid
    metrics = httpx.get(f"{gateway.internal_url}/metrics").text
    assert 'npe_gateway_retries_total{reason="worker_lost"}' in metrics


def test_beyond_its_room_requests_are_refused_at_once(
    gateway: GatewayProcess,
) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            held = stack.enter_context(connect(gateway))
            held.sendall(raw_edit(gateway, LONG, {}))
        until(lambda: in_flight(gateway) == 8)
        refused = edit(gateway, SHORT)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert in_flight(gateway) == 8
    # All of them left: those that waited in TorchServe give their places back too.
    until(lambda: in_flight(gateway) == 0)
    assert edit(gateway, SHORT).status_code == 200


def test_sigterm_lets_requests_finish(
    torchserve: TorchServeProcess,
    tmp_path: Path,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NPE_CONTROL_TOKEN", TOKEN)
    routes = Routes(production=(route_to(torchserve),))
    with running_gateway(tmp_path, routes, "--no-keys", drain_delay_s=0.5) as gateway:
        gateway.wait_until_ready()
        held = pool.submit(edit, gateway, MEDIUM)
        until(lambda: in_flight(gateway) == 1)
        gateway.process.terminate()
        until(lambda: httpx.get(f"{gateway.url}/readyz").status_code == 503)
        until(lambda: not accepts(gateway))
        assert not held.done()
        assert held.result().status_code == 200
        assert gateway.process.wait(timeout=20) == 0
        assert gateway.lines()[-1]["message"] == "stopped"


def accepts(gateway: GatewayProcess) -> bool:
    try:
        httpx.get(f"{gateway.url}/healthz")
    except httpx.TransportError:
        return False
    return True


def test_without_keys_only_loopback_is_served(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="--no-keys is for this machine alone"),
        running_gateway(tmp_path, Routes(), "--no-keys", host="0.0.0.0"),
    ):
        pass


def test_with_keys_nobody_gets_in_without_one(tmp_path: Path) -> None:
    with running_gateway(tmp_path, Routes()) as gateway:
        for headers in ({}, {"X-API-Key": "npe_guessed"}):
            reply = httpx.post(f"{gateway.url}/v1/edit", files=FILES, headers=headers)
            assert reply.status_code == 401
        assert "npe_guessed" not in gateway.log.read_text()


def test_the_log_names_requests_and_nothing_private(
    gateway: GatewayProcess, torchserve: TorchServeProcess
) -> None:
    reply = edit(gateway, SHORT)
    request_id = reply.headers["x-npe-request-id"]
    until(lambda: request_id in gateway.log.read_text())
    [line] = [line for line in gateway.lines() if line.get("request_id") == request_id]
    assert (line["operation"], line["status"], line["channel"]) == ("edit", 200, "production")
    assert line["bundle_digest"] == reply.headers["x-npe-bundle"]
    assert line["bytes_out"] == len(reply.content)
    text = gateway.log.read_text()
    for private in (TOKEN, "my-face", "my-mask", str(Path.home()), str(gateway.log.parent)):
        assert private not in text
