"""schemathesis sends a real gateway what its OpenAPI document allows, and what it forbids."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from neural_photo_editor.api.errors import RequestError
from serve.gateway import documentation, edits, health
from serve.gateway.access import ANONYMOUS, Principal
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import small_gateway

pytestmark = pytest.mark.slow

KEY = "npe_of_the_test"
FORMATS = Path(__file__).with_name("openapi_formats.py")


class OneKey:
    def authenticate(self, secret: str | None) -> Principal:
        if secret != KEY:
            raise RequestError(401, "no", field=None, remedy="send a key")
        return Principal("k1", ANONYMOUS.allows)


@contextmanager
def listening_gateway(folder: Path) -> Iterator[str]:
    """Run a gateway in a thread and yield its URL."""
    urls: list[str] = []
    started, stop = Event(), Event()

    async def serve() -> None:
        with SmallBackend() as backend:
            async with small_gateway(folder, backend, keys=OneKey(), listen=True) as gateway:
                urls.append(gateway.url)
                started.set()
                await asyncio.to_thread(stop.wait)

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield urls[0]
    finally:
        stop.set()
        thread.join()


def schemathesis(url: str, *options: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [
        Path(sys.executable).with_name("schemathesis"),
        *("run", f"{url}/openapi.json", "-H", f"Authorization: Bearer {KEY}"),
        *("--generation-deterministic", "--no-color"),
        *options,
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(FORMATS)}
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=200
    )


def test_the_gateway_does_what_its_document_says(tmp_path: Path) -> None:
    # Every check but one: what a field allows by itself is not all allowed together.
    checks = ("--exclude-checks", "positive_data_acceptance", "--continue-on-failure")
    phases = ("--phases", "examples,coverage,fuzzing", "--max-examples", "10")
    with listening_gateway(tmp_path) as url:
        done = schemathesis(url, *checks, *phases, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert tested is not None, done.stdout
    assert int(tested[1]) == int(tested[2]) > 500
    assert "12 selected / 12 total" in done.stdout


def failed(folder: Path, path: str, check: str) -> bool:
    chosen = ("--include-path", path, "--checks", check)
    phases = ("--phases", "fuzzing", "--max-examples", "5")
    with listening_gateway(folder) as url:
        done = schemathesis(url, *chosen, *phases, folder=folder)
    assert "1 selected" in done.stdout, done.stdout + done.stderr
    return done.returncode == 1


def test_a_status_that_is_not_documented_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = documentation.OPERATION_DOCS["segment"]
    responses = {200: docs["responses"][200], **documentation.problem_responses(401)}
    monkeypatch.setattr(edits, "OPERATION_DOCS", {"segment": {**docs, "responses": responses}})
    assert failed(tmp_path, "/v1/segment", "status_code_conformance")


def test_a_route_that_breaks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("broken")

    monkeypatch.setattr(edits, "parse_request", broken)
    assert failed(tmp_path, "/v1/upscale", "not_a_server_error")


def test_an_answer_unlike_its_schema_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "describe", lambda *_: ["not", "an", "object"])
    assert failed(tmp_path, "/v1/info", "response_schema_conformance")
