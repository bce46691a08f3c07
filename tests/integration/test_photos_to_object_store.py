"""Preparing shards straight into a real S3 server process, killed on the way."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from neural_photo_editor.data.shard_verification import verify
from neural_photo_editor.data.storage import ShardStorage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket of a server of this test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        _wait_until_it_answers(server, endpoint)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("photos")
        yield "s3://photos"
    finally:
        server.kill()
        server.wait()


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", endpoint: str) -> None:
    while True:
        assert server.poll() is None, "the S3 server ended"
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except OSError:
            time.sleep(0.05)


def _start(out_dir: str, *, num_workers: int) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "pipelines" / "prepare_shards.py"), f"out_dir={out_dir}"]
    source = ["source=synthetic", "source.count=90", "source.resolution=64", "name=portraits"]
    return subprocess.Popen(
        [*command, *source, "samples_per_shard=3", f"num_workers={num_workers}"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_preparation_goes_on_in_the_bucket(bucket: str, tmp_path: Path) -> None:
    local, storage = tmp_path / "local", ShardStorage(f"{bucket}/portraits/v1")
    process = _start(str(local), num_workers=1)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log

    process = _start(str(storage), num_workers=2)
    while sum(name.endswith(".done.json") for name in storage.names()) < 4:
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    finished = [name for name in storage.names() if name.endswith(".done.json")]
    assert 4 <= len(finished) < 30
    assert not storage.exists("manifest.json")

    process = _start(str(storage), num_workers=2)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert f"{len(finished)} of 30 shards are finished" in log
    for name in finished:
        assert f"{name.split('.')[0]}.tar written" not in log
    content = {name: storage.read(name) for name in storage.names()}
    assert content == {path.name: path.read_bytes() for path in local.iterdir()}
    verify(storage)
