"""One version's server: an archive that cannot be had, and an end that takes its time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from serve.deployment import Desired
from serve.managed_server import ManagedServer
from serve.sources import Fetched, Source
from serve.torchserve_process import TorchServeProcess


class FailingSource:
    """A source whose archives cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def desired(self) -> Desired:
        return Desired(production=1)

    def fetch(self, version: int, folder: Path) -> Fetched:
        raise self._error


class UnreachableSource:
    """A source that cannot be reached for a while, and then has nothing good."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.fetched = 0

    def desired(self) -> Desired:
        return Desired(production=1)

    def fetch(self, version: int, folder: Path) -> Fetched:
        self.fetched += 1
        if self.fetched <= self.failures:
            raise ConnectionError("the store cannot be reached")
        raise ValueError("the archive is damaged")


class SlowSource:
    """A source that copies archives when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def desired(self) -> Desired:
        return Desired(production=1)

    def fetch(self, version: int, folder: Path) -> Fetched:
        self.go_on.wait(10)
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / "neural_photo_editor.mar"
        archive.write_bytes(b"no archive")
        return Fetched(archive, "its digest")


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@contextmanager
def server_of(source: Source, folder: Path) -> Iterator[ManagedServer]:
    server = ManagedServer(1, source, workdir=folder, environment={})
    try:
        yield server
    finally:
        server.wait_until_stopped()


def until_down(server: ManagedServer) -> None:
    def is_down() -> bool:
        server.tend()
        return server.phase == "down"

    until(is_down)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("the archive is damaged\nin two places"), "the archive is damaged"),
        (IndexError("list index out of range"), "list index out of range"),
        (IndexError(), "IndexError"),
        (MemoryError("\n"), "MemoryError"),
    ],
)
def test_whatever_goes_wrong_with_a_version_is_its_own_failure(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    with server_of(FailingSource(error), tmp_path) as server:
        until_down(server)
        assert (server.reason, server.broken) == (reason, True)


@pytest.mark.parametrize(
    ("failures", "fetched", "reason"),
    [(2, 3, "the archive is damaged"), (100, 6, "the store cannot be reached")],
)
def test_a_store_that_cannot_be_reached_is_asked_again(
    failures: int, fetched: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.managed_server._MAX_WAIT_S", 0.0)
    source = UnreachableSource(failures)
    with server_of(source, tmp_path) as server:

        def is_broken() -> bool:
            server.tend()
            return server.broken

        until(is_broken)
        assert (source.fetched, server.reason) == (fetched, reason)


def test_an_archive_that_comes_after_the_end_does_not_stay(tmp_path: Path) -> None:
    source = SlowSource()
    with server_of(source, tmp_path) as server:
        server.stop()
        server.tend()
        assert (server.phase, server.stopped) == ("stopping", False)
        source.go_on.set()
        until(lambda: server.stopped)
    assert [*tmp_path.rglob("*.mar")] == []


def started(server: ManagedServer) -> psutil.Process:
    """Return the Java process, a moment after its start."""

    def is_starting() -> bool:
        server.tend()
        return server.phase == "starting"

    until(is_starting)
    return psutil.Process(server.to_json()["pid"])


def test_a_server_that_is_slow_to_end_is_not_waited_for(tmp_path: Path) -> None:
    source = SlowSource()
    source.go_on.set()
    with server_of(source, tmp_path) as server:
        java = started(server)
        java.suspend()
        try:
            server.stop()
            assert (server.phase, server.stopped, java.is_running()) == ("stopping", False, True)
        finally:
            java.resume()
        until(lambda: server.stopped)
    assert not java.is_running()
    assert [*tmp_path.rglob("*.mar")] == []


def test_a_server_that_failed_is_not_waited_for_and_not_started_before_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = partial(TorchServeProcess, ready_timeout_s=0.0)
    monkeypatch.setattr("serve.managed_server.TorchServeProcess", impatient)
    monkeypatch.setattr("serve.managed_server._MAX_WAIT_S", 0.0)
    source = SlowSource()
    source.go_on.set()
    with server_of(source, tmp_path) as server:
        java = started(server)
        java.suspend()
        try:
            for _ in range(3):
                server.tend()
                assert (server.phase, server.broken, java.is_running()) == ("down", True, True)
        finally:
            java.resume()
        assert started(server).pid != java.pid
        assert not java.is_running()
