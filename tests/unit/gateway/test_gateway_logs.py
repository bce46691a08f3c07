"""Lines of JSON that tell what happened and nothing private."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.api.errors import RequestError
from serve.gateway.access import Principal
from serve.gateway.logs import JsonFormatter
from tests.unit.gateway.small_backend import SmallBackend
from tests.unit.gateway.small_gateway import MASK, PHOTO, small_gateway


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Collect what the gateway writes; the client in this process is not its."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("serve")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class OneKey:
    def authenticate(self, secret: str | None) -> Principal:
        if secret != "npe_topsecret":
            raise RequestError(401, "no", field=None, remedy="send a key")
        return Principal("k7", frozenset({"edit"}))


def test_one_line_for_each_request(tmp_path: Path, log: io.StringIO) -> None:
    files = {"photo": ("aunt-mary.png", PHOTO), "mask": ("aunt-mary-mask.png", MASK)}
    key = {"X-API-Key": "npe_topsecret"}

    async def run() -> list[str]:
        with SmallBackend() as backend:
            async with small_gateway(tmp_path, backend, keys=OneKey()) as gateway:
                replies = [
                    await gateway.client.post("/v1/edit", files=files, headers=key),
                    await gateway.client.post("/v1/edit", files=files),
                    await gateway.client.get("/some/where?photo=aunt-mary.png"),
                ]
                assert [reply.status_code for reply in replies] == [200, 401, 404]
                return [reply.headers["x-npe-request-id"] for reply in replies]

    ids = asyncio.run(run())
    requests = [line for line in lines(log) if line["message"] == "request"]
    assert [line["request_id"] for line in requests] == ids
    edit, refused, unknown = requests
    assert edit["key_id"] == "k7"
    assert (edit["operation"], edit["status"], edit["channel"]) == ("edit", 200, "production")
    assert edit["bundle_digest"] == "a" * 64
    assert edit["bytes_in"] > len(PHOTO) + len(MASK)
    assert edit["bytes_out"] == len(PHOTO)
    assert edit["ms"] > 0
    assert (refused["status"], refused["key_id"], refused["bytes_in"]) == (401, "", 0)
    assert (unknown["status"], unknown["operation"]) == (404, "other")
    for private in ("npe_topsecret", "aunt-mary", "/some/where", str(tmp_path), "iVBOR"):
        assert private not in log.getvalue()


def test_an_exception_is_told_by_its_kind_and_place(log: io.StringIO) -> None:
    try:
        raise ValueError("photo=iVBORw0KGgo")
    except ValueError:
        logging.getLogger("serve.gateway").exception("a request failed")
    [line] = lines(log)
    assert line["error"] == "ValueError"
    assert line["stack"][-1].startswith("gateway/test_gateway_logs.py:")
    assert "iVBOR" not in log.getvalue()
    assert str(Path.home()) not in log.getvalue()
