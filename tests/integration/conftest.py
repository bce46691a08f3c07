"""What tests share: an S3 server, an empty bucket for each of them, an undisturbed training."""

import itertools
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(server, endpoint)
        yield endpoint
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards that `training_process.Training` trains on."""
    from tests.integration.training_process import write_small_shards

    return write_small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="session")
def whole_run(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two processes that nothing disturbed."""
    from tests.integration.training_process import Training

    run_dir = tmp_path_factory.mktemp("whole")
    Training(small_shards, run_dir, "trainer.devices=2").finish()
    return run_dir


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket of this test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Another test's server may be known there.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    name = f"photos-{next(_numbers)}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    return f"s3://{name}"


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", endpoint: str) -> None:
    while True:
        assert server.poll() is None, "the S3 server ended"
        try:
            with urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
