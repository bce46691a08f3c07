"""Clients follow edits and give them up, and so does the worker, whichever way they left."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from neural_photo_editor.api import (
    AsyncEditClient,
    EditCanceled,
    EditClient,
    EditError,
    EditOptions,
    Progress,
)
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import KeyedGateway, route_to, running_gateway

pytestmark = pytest.mark.slow

PHOTO = generate_portrait(seed=5, index=0, resolution=96).photo
MASK = np.zeros((96, 96), np.bool_)
MASK[20:60, 30:70] = True
# 600 network calls: seconds, in which a test does what it does.
LONG: EditOptions = {"mask": MASK, "timestep": 500, "steps": 300, "resamples": 2, "seed": 1}
NUM_STEPS = 599


@pytest.fixture
def num_computed(server: TorchServeProcess) -> Callable[[], float]:
    """Return a function that tells how many steps the worker has computed since the test began."""

    def total() -> float:
        lines = httpx.get(f"{server.control_url}/metrics").text.splitlines()
        name = "npe_worker_steps_computed_total"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    start = total()
    return lambda: total() - start


def wait_until_idle(gateway: KeyedGateway) -> None:
    until = time.monotonic() + 20
    while httpx.get(f"{gateway.process.internal_url}/backends").json()[0]["in_flight"]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_progress_previews_and_the_same_result(keyed_gateway: KeyedGateway) -> None:
    seen: list[Progress] = []
    short: EditOptions = {**LONG, "steps": 50, "resamples": 1}
    with EditClient(keyed_gateway.url, api_key=keyed_gateway.key) as client:
        followed = client.edit(PHOTO, on_progress=seen.append, **short)
        plain = client.edit(PHOTO, **short)
    assert followed.image == plain.image
    steps = [progress.step for progress in seen]
    assert steps == sorted(set(steps))
    assert seen[-1].fraction == 1.0
    assert {progress.total_steps for progress in seen} == {50}
    assert all((one.preview or b"")[8:12] == b"WEBP" and one.crop is not None for one in seen)


def test_a_callback_that_says_no(
    keyed_gateway: KeyedGateway, num_computed: Callable[[], float]
) -> None:
    with (
        EditClient(keyed_gateway.url, api_key=keyed_gateway.key) as client,
        pytest.raises(EditCanceled),
    ):
        client.edit(PHOTO, on_progress=lambda progress: False, **LONG)
    wait_until_idle(keyed_gateway)
    assert 0 < num_computed() < NUM_STEPS / 2


def test_a_task_that_is_canceled(
    keyed_gateway: KeyedGateway, num_computed: Callable[[], float]
) -> None:
    async def edit() -> None:
        begun = asyncio.Event()

        async def on_progress(progress: Progress) -> None:
            begun.set()

        async with AsyncEditClient(keyed_gateway.url, api_key=keyed_gateway.key) as client:
            task = asyncio.create_task(client.edit(PHOTO, on_progress=on_progress, **LONG))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(edit())
    wait_until_idle(keyed_gateway)
    assert 0 < num_computed() < NUM_STEPS / 2


def test_ctrl_c_at_a_terminal(
    keyed_gateway: KeyedGateway, num_computed: Callable[[], float], tmp_path: Path
) -> None:
    (tmp_path / "photo.png").write_bytes(encode_png(PHOTO))
    (tmp_path / "mask.png").write_bytes(encode_png(MASK.astype(np.uint8) * np.uint8(255)))
    code = "import sys; from neural_photo_editor.cli import main; sys.exit(main())"
    options = ["--mask", "mask.png", "--timestep", "500", "--steps", "300", "--resamples", "2"]
    options += ["--preview", "preview.png", "--server", keyed_gateway.url]
    terminal, end_of_process = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "edit", "photo.png", *options],
        cwd=tmp_path,
        env=keyed_gateway.environment,
        stderr=end_of_process,
    )
    os.close(end_of_process)
    try:
        shown = b""
        while shown.count(b"\rnpe: step ") < 2:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO, once nobody writes to it any more.
            while data := os.read(terminal, 4096):
                shown += data
        assert process.wait(timeout=20) == 130
    finally:
        process.kill()
        os.close(terminal)
    said = b"npe: canceled: the connection is closed, and the server gives the work up\r\n"
    assert shown.endswith(b"\r\x1b[K" + said)
    wait_until_idle(keyed_gateway)
    assert 0 < num_computed() < NUM_STEPS * 0.8
    assert (tmp_path / "preview.png").exists()
    assert not (tmp_path / "photo.edited.png").exists()


def test_a_client_waits_for_a_server_that_is_not_ready(
    server: TorchServeProcess, tmp_path: Path
) -> None:
    with (
        running_gateway(
            tmp_path, Routes(), "--no-keys", recovery_s=0.1, retry_after_s=1
        ) as gateway,
        EditClient(gateway.url, max_retries=30) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.segment, PHOTO)
        until = time.monotonic() + 20
        while not any(line.get("status") == 503 for line in gateway.lines()):
            assert time.monotonic() < until
            time.sleep(0.01)
        routes = tmp_path / "new.json"
        routes.write_text(Routes(production=(route_to(server),)).model_dump_json())
        routes.replace(tmp_path / "routes.json")
        assert answer.result().metadata.width == 96


@pytest.mark.parametrize("key", ["", "npe_0123456789ab_wrong"])
def test_without_its_key_a_client_is_told_so(keyed_gateway: KeyedGateway, key: str) -> None:
    with (
        EditClient(keyed_gateway.url, api_key=key) as client,
        pytest.raises(EditError, match="key") as caught,
    ):
        client.edit(PHOTO, on_progress=lambda progress: None, **LONG)
    assert caught.value.status == 401
    assert len(caught.value.request_id or "") == 32
