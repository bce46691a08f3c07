"""A real TorchServe with a real (tiny) bundle: edits, refusals, batches, and a clean stop."""

import base64
import io
import json
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api import EditClient
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from serve.torchserve_process import TorchServeProcess

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PHOTO: NDArray[np.uint8] = generate_portrait(seed=5, index=0, resolution=96).photo
MASK = np.zeros(PHOTO.shape[:2], dtype=np.bool_)
MASK[20:60, 30:70] = True
PNG = encode_png(PHOTO)
MASK_PNG = encode_png(MASK.astype(np.uint8) * np.uint8(255))


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def url(server: TorchServeProcess) -> str:
    return f"{server.inference_url}/predictions/{server.model}"


@pytest.fixture(scope="module")
def client(server: TorchServeProcess) -> EditClient:
    return EditClient(server.inference_url, model=server.model)


def form(fields: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    return {"data": fields, "files": {name: (f"{name}.png", data) for name, data in files.items()}}


def test_an_edit_changes_the_mask_and_nothing_else(client: EditClient) -> None:
    edit = client.edit(PHOTO, mask=MASK, color="#20c0ff", strength=0.5, steps=3, seed=11)
    result = pixels(edit.image)
    assert result.shape == PHOTO.shape
    np.testing.assert_array_equal(result[~MASK], PHOTO[~MASK])
    assert (result[MASK] != PHOTO[MASK]).any(axis=-1).mean() > 0.5
    metadata = edit.metadata
    assert (metadata.seed, metadata.steps, metadata.strength) == (11, 3, 0.5)
    assert (metadata.width, metadata.height, metadata.mask_pixels) == (96, 96, MASK.sum())
    assert len(metadata.bundle_digest) == 64
    assert metadata.timings_ms["diffuse"] > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(client: EditClient) -> None:
    first, again, other = (
        client.edit(PHOTO, mask=MASK, strength=1.0, sampler="ddpm", steps=3, seed=seed).image
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_json_and_form_give_the_same_edit(client: EditClient, url: str) -> None:
    document = {
        "operation": "edit", "photo": base64.b64encode(PNG).decode(),
        "mask": base64.b64encode(MASK_PNG).decode(), "strength": 0.5, "seed": 4,
        "response": "json",
    }  # fmt: skip
    expected = client.edit(PNG, mask=MASK_PNG, strength=0.5, seed=4)
    for content_type in ("application/json", "application/json; charset=utf-8"):
        reply = httpx.post(
            url, content=json.dumps(document), headers={"content-type": content_type}
        )
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("application/json")
        assert base64.b64decode(reply.json()["image"]) == expected.image
        assert reply.json()["metadata"]["seed"] == 4


def test_segment_and_edit_a_region_it_found(client: EditClient) -> None:
    segmented = client.segment(PNG)
    labels = pixels(segmented.image)
    assert labels.shape == PHOTO.shape[:2]
    for region in segmented.metadata.regions:
        assert region.pixels == (labels == region.id).sum()
    largest = max(segmented.metadata.regions, key=lambda region: region.pixels)
    edit = client.edit(PNG, regions=[largest.name], color="#00ff00", strength=0.3, seed=1)
    outside = labels != largest.id
    np.testing.assert_array_equal(pixels(edit.image)[outside], PHOTO[outside])
    assert edit.metadata.mask_pixels == largest.pixels


def test_strokes_alone_are_a_mask(client: EditClient) -> None:
    strokes = np.zeros((96, 96, 4), dtype=np.uint8)
    strokes[10:20, 10:60] = (250, 20, 20, 255)
    edit = client.edit(PHOTO, strokes=strokes, seed=2)
    outside = strokes[..., 3] == 0
    np.testing.assert_array_equal(pixels(edit.image)[outside], PHOTO[outside])


def test_variations_are_the_edits_of_consecutive_seeds(client: EditClient) -> None:
    several = client.edit(PHOTO, mask=MASK, sampler="dpmpp_2m", resamples=1, seed=7, variations=3)
    assert several.metadata.seeds == (7, 8, 9)
    assert len(set(several.images)) == 3
    alone = client.edit(PHOTO, mask=MASK, sampler="dpmpp_2m", resamples=1, seed=8)
    difference = pixels(several.images[1]).astype(int) - pixels(alone.image)
    assert np.abs(difference).max() <= 1


def test_jpeg_is_sent_as_jpeg_and_says_that_it_is_not_exact(client: EditClient, url: str) -> None:
    fields = {**EDIT, "format": "jpeg", "seed": "1"}
    reply = httpx.post(url, **form(fields, {"photo": PNG, "mask": MASK_PNG}))
    assert reply.headers["content-type"] == "image/jpeg"
    assert pixels(reply.content).shape == PHOTO.shape
    assert not client.edit(PHOTO, mask=MASK, format="jpeg").metadata.exact


def test_upscale(client: EditClient) -> None:
    upscaled = client.upscale(PHOTO)
    assert upscaled.metadata.scale == 4
    assert pixels(upscaled.image).shape == (384, 384, 3)


SMALL_MASK = encode_png(np.full((64, 64), 255, dtype=np.uint8))
OVERSIZED = encode_png(np.zeros((6001, 6000), dtype=np.uint8))
EDIT = {"operation": "edit", "strength": "0.5"}
BAD_INPUT: list[tuple[str, dict[str, Any], int, str | None]] = [
    ("image as body", {"content": PNG, "headers": {"content-type": "image/png"}}, 415, None),
    ("text as body", {"content": "hi", "headers": {"content-type": "text/plain"}}, 415, None),
    (
        "malformed JSON",
        {"content": "{'a'", "headers": {"content-type": "application/json"}},
        400,
        None,
    ),
    ("no operation", form({}, {"photo": PNG}), 422, "operation"),
    ("no photo", form(EDIT, {"mask": MASK_PNG}), 422, "photo"),
    ("another file type", form(EDIT, {"photo": b"GIF89a" * 9, "mask": MASK_PNG}), 415, "photo"),
    ("undecodable image", form(EDIT, {"photo": PNG[:999], "mask": MASK_PNG}), 422, "photo"),
    ("oversized image", form(EDIT, {"photo": OVERSIZED, "mask": MASK_PNG}), 413, "photo"),
    ("mask of another size", form(EDIT, {"photo": PNG, "mask": SMALL_MASK}), 422, "mask"),
    ("empty mask", form(EDIT, {"photo": PNG, "mask": encode_png(PHOTO // 255)}), 422, "mask"),
    ("unknown region", form({**EDIT, "regions": "beard"}, {"photo": PNG}), 422, "regions"),
    (
        "strength out of range",
        form({**EDIT, "strength": "1.5"}, {"photo": PNG, "mask": MASK_PNG}),
        422,
        "strength",
    ),
    (
        "timestep beyond the schedule",
        form({"operation": "edit", "timestep": "501"}, {"photo": PNG, "mask": MASK_PNG}),
        422,
        "timestep",
    ),
    (
        "variations as one image",
        form({**EDIT, "variations": "2"}, {"photo": PNG, "mask": MASK_PNG}),
        422,
        "variations",
    ),
    ("unknown field", form({**EDIT, "zoom": "2"}, {"photo": PNG, "mask": MASK_PNG}), 422, "zoom"),
]


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [pytest.param(*case[1:], id=case[0].replace(" ", "-")) for case in BAD_INPUT],
)
def test_bad_input_is_a_problem_document_and_the_worker_stays_up(
    server: TorchServeProcess, url: str, sent: dict[str, Any], status: int, field: str | None
) -> None:
    workers = [worker["pid"] for worker in server.workers()]
    reply = httpx.post(url, **sent)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert (problem["status"], problem["field"]) == (status, field)
    assert problem["detail"]
    assert problem["remedy"]
    assert [worker["pid"] for worker in server.workers()] == workers


def test_concurrent_requests_with_bad_ones_among_them(client: EditClient, url: str) -> None:
    alone = [
        client.edit(PNG, mask=MASK_PNG, strength=0.5, steps=1 + seed % 3, seed=seed).image
        for seed in range(4)
    ]

    def send(index: int) -> httpx.Response:
        if index % 3 == 2:
            files = {"photo": PNG, "mask": SMALL_MASK}
            return httpx.post(url, **form(EDIT, files), timeout=120.0)
        fields = {**EDIT, "steps": str(1 + index % 4 % 3), "seed": str(index % 4)}
        files = {"photo": PNG, "mask": MASK_PNG}
        return httpx.post(url, **form(fields, files), timeout=120.0)

    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(send, range(12)))
    for index, reply in enumerate(replies):
        if index % 3 == 2:
            assert (reply.status_code, reply.json()["field"]) == (422, "mask")
        else:
            assert reply.status_code == 200
            # Equal to the request sent alone, whatever was in its batch.
            difference = pixels(reply.content).astype(int) - pixels(alone[index % 4])
            assert np.abs(difference).max() <= 1


def test_the_server_listens_on_loopback_only(server: TorchServeProcess) -> None:
    listening = [
        connection.laddr.ip
        for process in server.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


def test_stop_leaves_no_process_and_frees_the_port(tiny_archive: Path, tmp_path: Path) -> None:
    with TorchServeProcess(tiny_archive, workdir=tmp_path) as process:
        members = process.processes()
        assert len(members) == 2
        port = process.port
    assert not [member for member in members if member.is_running()]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    process.stop()


def test_a_damaged_bundle_fails_the_start_with_the_reason(
    tiny_archive: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / tiny_archive.name
    with zipfile.ZipFile(tiny_archive) as source, zipfile.ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "artifacts/denoiser/model.safetensors":
                content = content[:-1] + bytes([content[-1] ^ 1])
            target.writestr(name, content)
    process = TorchServeProcess(damaged, workdir=tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)failed to load.*model\.safetensors"):
        process.start()
    assert process.processes() == []
