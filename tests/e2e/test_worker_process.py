"""The command that a container runs: a TorchServe that ends when what it has is answered."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-test"
MASK = np.zeros((96, 96), np.uint8)
MASK[20:60, 30:70] = 255
FILES = {
    "photo": ("photo.png", encode_png(generate_portrait(seed=5, index=0, resolution=96).photo)),
    "mask": ("mask.png", encode_png(MASK)),
}
LONG = {"operation": "edit", "timestep": "500", "steps": "100", "seed": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    url: str
    control_url: str
    log: Path

    def readiness(self) -> int | None:
        try:
            return httpx.get(f"{self.control_url}/ready", timeout=10).status_code
        except httpx.HTTPError:
            return None

    def wait_for(self, status: int) -> None:
        deadline = time.monotonic() + 120
        while self.readiness() != status:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def edit(self, fields: dict[str, str]) -> httpx.Response:
        return httpx.post(self.url, data=fields, files=FILES, timeout=120)

    def wait_for_work(self) -> None:
        deadline = time.monotonic() + 60
        while "npe_worker_batch_size_count 0.0" in httpx.get(f"{self.control_url}/metrics").text:
            assert time.monotonic() < deadline


@pytest.fixture
def worker(tiny_archive: Path, tmp_path: Path) -> Iterator[Worker]:
    port, control_port, log = free_port(), free_port(), tmp_path / "output.log"
    command = [
        *(sys.executable, "-m", "serve.worker", "--mar", str(tiny_archive)),
        *("--port", str(port), "--control-port", str(control_port)),
        *("--workdir", str(tmp_path / "work"), "--drain-delay-s", "0"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "NPE_CONTROL_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    worker = Worker(
        process,
        f"http://127.0.0.1:{port}/predictions/{tiny_archive.stem}",
        f"http://127.0.0.1:{control_port}",
        log,
    )
    try:
        worker.wait_for(200)
        yield worker
    finally:
        process.kill()  # What it has started ends with it.
        process.wait()


def test_what_was_begun_is_answered_before_the_end(worker: Worker) -> None:
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert len(children) >= 2  # Java and the worker
    with ThreadPoolExecutor(5) as pool:
        # One is computed, or four are; the others wait in the queue.
        replies = [pool.submit(worker.edit, LONG) for _ in range(5)]
        worker.wait_for_work()
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for(503)
        assert [reply.result().status_code for reply in replies] == [200] * 5
    assert worker.process.wait(timeout=60) == 0, worker.log.read_text()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_a_second_signal_does_not_wait(worker: Worker) -> None:
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(worker.edit, {**LONG, "steps": "500", "resamples": "2"})
        worker.wait_for_work()
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_for(503)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=60) == 0, worker.log.read_text()
        assert isinstance(reply.exception(), httpx.HTTPError)


def test_an_open_address_needs_a_token(tiny_archive: Path, tmp_path: Path) -> None:
    environment = {name: v for name, v in os.environ.items() if name != "NPE_CONTROL_TOKEN"}
    command = [
        *(sys.executable, "-m", "serve.worker", "--mar", str(tiny_archive)),
        *("--host", "0.0.0.0", "--workdir", str(tmp_path)),
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "set NPE_CONTROL_TOKEN" in done.stderr
