"""Receipts of a real server behind a real gateway: verified, and replayed in another process."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from neural_photo_editor.api import EditClient
from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.receipt import read_receipt
from neural_photo_editor.api.schema import EditResult
from neural_photo_editor.api.signing import KEY_BYTES, SigningKey, key_to_text
from neural_photo_editor.cli import main as npe
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.gateway.routes import Routes
from serve.torchserve_process import TorchServeProcess
from tests.e2e.gateway_process import GatewayProcess, route_to, running_gateway

pytestmark = pytest.mark.slow

PHOTO = encode_png(generate_portrait(seed=6, index=0, resolution=96).photo)
MASK = np.zeros((96, 96), dtype=np.bool_)
MASK[20:60, 30:70] = True
MASK_PNG = encode_png(MASK.astype(np.uint8) * np.uint8(255))


@pytest.fixture(scope="module")
def gateway(
    server: TorchServeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    routes = Routes(production=(route_to(server),))
    with running_gateway(tmp_path_factory.mktemp("gateway"), routes, "--no-keys") as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="module")
def public_key(gateway: GatewayProcess) -> str:
    """The key as everybody gets it: from the gateway."""
    (key,) = httpx.get(f"{gateway.url}/v1/info").json()["receipt_keys"]
    return str(key["public_key"])


def _verify(folder: Path, edited: bytes, receipt: Any, *options: str) -> int:
    (folder / "original.png").write_bytes(PHOTO)
    (folder / "edited.png").write_bytes(edited)
    (folder / "receipt.json").write_text(json.dumps(receipt))
    files = [str(folder / name) for name in ("original.png", "edited.png", "receipt.json")]
    return npe(["verify", *files, *options])


def _signed_by_another(document: dict[str, Any]) -> dict[str, Any]:
    key = SigningKey(b"k" * KEY_BYTES)
    document = {**document, "key_id": key.key_id, "public_key": key_to_text(key.public_key)}
    receipt = read_receipt(json.dumps(document).encode())
    return {**document, "signature": key_to_text(key.sign(receipt.signed_bytes()))}


@pytest.fixture(scope="module")
def edit(server: TorchServeProcess) -> EditResult:
    with EditClient(server.inference_url, model=server.model) as client:
        return client.edit(PHOTO, mask=MASK, color="#20c0ff", strength=0.6, steps=3, receipt=True)


def test_a_receipt_is_verified_and_its_edit_replayed(
    edit: EditResult, tiny_archive: Path, public_key: str, tmp_path: Path
) -> None:
    options = ["--public-key", public_key, "--bundle", str(tiny_archive)]
    assert _verify(tmp_path, edit.image, edit.receipt, *options) == 0
    pixels = decode_photo(edit.image).rgb.copy()
    pixels[0, 0, 0] ^= 1
    assert _verify(tmp_path, encode_png(pixels), edit.receipt, *options) == 6


def test_another_seed_is_not_replayed_to_these_bytes(
    edit: EditResult, tiny_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(json.dumps(edit.receipt))
    document["edit"]["seed"] += 1
    for signed_anew, expected in (
        (document, {"signature": "FAILED", "replay": "UNPROVEN"}),
        (_signed_by_another(document), {"signature": "UNPROVEN", "replay": "FAILED"}),
    ):
        options = ["--json", "--bundle", str(tiny_archive)]
        assert _verify(tmp_path, edit.image, signed_anew, *options) == 6
        checks = json.loads(capsys.readouterr().out)["checks"]
        outcomes = {check["name"]: check["outcome"] for check in checks}
        assert {name: outcomes[name] for name in expected} == expected
        assert outcomes["locality"] == "OK"


@pytest.mark.parametrize("as_events", [False, True])
def test_receipts_come_through_the_gateway(
    gateway: GatewayProcess, public_key: str, tmp_path: Path, as_events: bool
) -> None:
    reply = httpx.post(
        f"{gateway.url}/v1/edit",
        data={"receipt": "true", "response": "json", "color": "#20c0ff", "steps": "3"},
        files={"photo": PHOTO, "mask": MASK_PNG},
        headers={"accept": "text/event-stream"} if as_events else {},
        timeout=120.0,
    )
    assert reply.status_code == 200, reply.text
    text = reply.text
    if as_events:
        text = text.rpartition("event: result\n")[2].partition("data: ")[2]
    document = json.loads(text)
    edited = base64.b64decode(document["image"])
    assert _verify(tmp_path, edited, document["receipt"], "--public-key", public_key) == 0


def test_an_image_response_has_no_room_for_a_receipt(gateway: GatewayProcess) -> None:
    files = {"photo": PHOTO, "mask": MASK_PNG}
    reply = httpx.post(f"{gateway.url}/v1/edit", data={"receipt": "true"}, files=files)
    assert (reply.status_code, reply.json()["field"]) == (422, "receipt")
    assert "response=json" in reply.json()["remedy"]
