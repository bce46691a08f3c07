"""One version's server: what happens when its archive cannot be had."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.deployment import Desired
from serve.managed_server import ManagedServer
from serve.sources import Fetched


class FailingSource:
    """A source whose archives cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def desired(self) -> Desired:
        return Desired(production=1)

    def fetch(self, version: int, folder: Path) -> Fetched:
        raise self._error


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@contextmanager
def server_of(source: FailingSource, folder: Path) -> Iterator[ManagedServer]:
    server = ManagedServer(1, source, workdir=folder, environment={})
    try:
        yield server
    finally:
        server.stop()


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
