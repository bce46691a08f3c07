"""``npe edit`` and ``npe replay``: previews, receipts, recipes and the files they end up in."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api import client as client_module
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.envelope import render
from neural_photo_editor.api.recipe import read_recipe
from neural_photo_editor.api.schema import EditMetadata, EditResult, SegmentMetadata, SegmentResult
from neural_photo_editor.cli import main
from serve.gateway.event_stream import format_event

PHOTO = encode_png(np.full((32, 32, 3), 90, np.uint8))
MASK = encode_png(np.full((32, 32), 255, np.uint8))
LABELS = np.ones((32, 32), np.uint8)


def result(num_images: int) -> EditResult:
    metadata = EditMetadata(
        width=32, height=32, bundle_digest="d", seed=5, sampler="ddim", steps=4, timestep=9,
        strength=0.1, seeds=tuple(range(5, 5 + num_images)),
    )  # fmt: skip
    receipts: tuple[dict[str, Any], ...] = tuple({"n": n} for n in range(num_images))
    images = (PHOTO,) * num_images
    return EditResult(image=images[0], more_images=images[1:], receipts=receipts, metadata=metadata)


def progress(step: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (step, 0, 0)).save(file, "webp", lossless=True)
    event = {"step": step, "total_steps": 2, "preview": base64.b64encode(file.getvalue()).decode()}
    return format_event("progress", json.dumps(event))


class Gateway:
    """Streams two steps and a result; ``on_step`` is called before the second."""

    def __init__(self) -> None:
        self.num_images = 1
        self.bodies: list[bytes] = []
        self.preview: Path | None = None
        self.first_preview: Image.Image | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.read())
        if request.url.path == "/v1/segment":
            metadata = SegmentMetadata(width=32, height=32, bundle_digest="d", regions=())
            reply = render(SegmentResult(image=encode_png(LABELS), metadata=metadata))
            return httpx.Response(200, headers=reply.headers, content=reply.body)
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=self.events()
        )

    def events(self) -> httpx.SyncByteStream:
        gateway = self

        class Events(httpx.SyncByteStream):
            def __iter__(self) -> Any:
                yield progress(1)
                if gateway.preview is not None:
                    gateway.first_preview = Image.open(io.BytesIO(gateway.preview.read_bytes()))
                yield progress(2)
                document = render(result(gateway.num_images), response="json").body.decode()
                yield format_event("result", document)

        return Events()


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gateway:
    played = Gateway()
    real = httpx.Client

    def connect(**options: Any) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(played.answer)})

    monkeypatch.setattr(client_module.httpx, "Client", connect)
    monkeypatch.chdir(tmp_path)
    Path("me.png").write_bytes(PHOTO)
    Path("mask.png").write_bytes(MASK)
    return played


def test_progress_and_previews_while_the_edit_is_made(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.preview = Path("now.png")
    assert main(["edit", "me.png", "--mask", "mask.png", "--preview", "now.png"]) == 0
    assert "npe: step 1 of 2\nnpe: step 2 of 2" in capsys.readouterr().err
    assert gateway.first_preview is not None
    assert (gateway.first_preview.format, gateway.first_preview.getpixel((0, 0))) == (
        "PNG",
        (1, 0, 0),
    )
    assert Image.open("now.png").getpixel((0, 0)) == (2, 0, 0)
    assert sorted(path.name for path in Path().iterdir()) == [
        "mask.png", "me.edited.png", "me.png", "now.png",
    ]  # fmt: skip


@pytest.mark.parametrize(("num_images", "files"), [(1, ["r.json"]), (2, ["r-1.json", "r-2.json"])])
def test_receipts_are_written(gateway: Gateway, num_images: int, files: list[str]) -> None:
    gateway.num_images = num_images
    options = ["--mask", "mask.png", "--variations", str(num_images), "--receipt", "r.json"]
    assert main(["edit", "me.png", *options]) == 0
    assert b'name="receipt"\r\n\r\ntrue' in gateway.bodies[0]
    assert [json.loads(Path(name).read_text())["n"] for name in files] == list(range(num_images))


def test_a_recipe_replays_the_edit(gateway: Gateway) -> None:
    Path("me\x1b.png").write_bytes(PHOTO)
    edit = ["edit", "me\x1b.png", "--mask", "mask.png", "--strength", "0.5", "-o", "out.webp"]
    assert main([*edit, "--save-recipe", "edit.json", "--receipt", "r.json"]) == 0
    recipe = read_recipe(Path("edit.json").read_bytes())
    assert recipe.name == "me"
    assert (recipe.request.seed, recipe.request.strength, recipe.request.format) == (5, 0.5, "webp")
    assert not recipe.request.receipt
    assert main(["replay", "edit.json", "--receipt", "again.json"]) == 0
    assert Path("edit.edited.png").read_bytes() == PHOTO
    assert Path("again.json").is_file()
    assert b'name="seed"\r\n\r\n5' in gateway.bodies[1]
    for part in (PHOTO, MASK, b"webp"):
        assert part in gateway.bodies[0]
        assert part in gateway.bodies[1]
    assert main(["replay", "edit.json"]) == 0
    assert b'name="receipt"' not in gateway.bodies[2]


def test_side_by_side_asks_for_the_regions(gateway: Gateway) -> None:
    edit = ["edit", "me.png", "--regions", "hair", "--color", "#ff0000"]
    assert main([*edit, "--side-by-side", "both.jpg"]) == 0
    with Image.open("both.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (3 * 32 + 20, 62))
    assert len(gateway.bodies) == 2


@pytest.mark.parametrize(
    "option", ["--receipt", "--side-by-side", "--preview", "--save-recipe", "-o"]
)
def test_a_folder_that_is_absent_costs_no_edit(gateway: Gateway, option: str) -> None:
    assert main(["edit", "me.png", "--mask", "mask.png", option, "absent/file.png"]) == 1
    assert gateway.bodies == []


def test_what_is_no_recipe_or_picture_is_refused(gateway: Gateway) -> None:
    Path("bad.json").write_text("{}")
    assert main(["replay", "bad.json"]) == 1
    assert main(["replay", "absent.json"]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["edit", "me.png", "--mask", "mask.png", "--preview", "now.gif"])
    assert caught.value.code == 2
    assert gateway.bodies == []
