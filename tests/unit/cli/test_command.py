"""The npe command: files, exit statuses and messages, against a client that plays the server."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api import client as client_module
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.envelope import Reply, render, render_error
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    EditMetadata,
    EditResult,
    RegionSummary,
    SegmentMetadata,
    SegmentResult,
)
from neural_photo_editor.cli import main
from neural_photo_editor.common.regions import colorize_labels

EDITED = EditResult(
    image=b"edited",
    metadata=EditMetadata(
        width=8, height=8, bundle_digest="d", seed=5, sampler="ddim", steps=4, timestep=9,
        strength=0.1,
    ),
)  # fmt: skip
LABELS = np.arange(256, dtype=np.uint8).reshape(16, 16) % 11
SEGMENTED = SegmentResult(
    image=encode_png(LABELS),
    metadata=SegmentMetadata(
        width=16,
        height=16,
        bundle_digest="d",
        regions=(RegionSummary(id=1, name="hair", pixels=9, fraction=0.1, box=None),),
    ),
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "me.jpg"
    path.write_bytes(b"photo bytes")
    return path


class Server:
    """Answers every request with ``reply`` and keeps the last one."""

    reply: Reply | None = None
    body = b""
    request = httpx.Request("GET", "http://none")
    interrupt = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.body, self.request = request.read(), request
        if self.interrupt:
            raise KeyboardInterrupt
        if self.reply is None:
            raise httpx.ReadTimeout("too slow")
        return httpx.Response(
            self.reply.status, headers=self.reply.headers, content=self.reply.body
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    played = Server()
    real = httpx.Client

    def connect(**options: Any) -> httpx.Client:
        return real(**{**options, "transport": httpx.MockTransport(played.answer)})

    monkeypatch.setattr(client_module.httpx, "Client", connect)
    return played


def test_edit_sends_the_options_and_writes_the_png(
    server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = render(EDITED)
    options = ["--regions", "hair,lip", "--color", "#aabbcc", "--strength", "0.5", "--seed", "0"]
    assert main(["edit", str(photo), *options]) == 0
    assert (photo.parent / "me.edited.png").read_bytes() == b"edited"
    for part in (b"\r\nhair,lip\r\n", b"\r\n#aabbcc\r\n", b"\r\n0.5\r\n", b"photo bytes"):
        assert part in server.body
    printed = capsys.readouterr()
    assert json.loads(printed.out)["seed"] == 5
    assert "me.edited.png (8 x 8 pixels)" in printed.err


def test_variations_are_written_under_their_numbers(server: Server, photo: Path) -> None:
    server.reply = render(EDITED.model_copy(update={"more_images": (b"second",)}), response="json")
    output = photo.parent / "out.png"
    options = ["--regions", "hair", "--variations", "2", "-o", str(output)]
    assert main(["edit", str(photo), *options]) == 0
    assert (photo.parent / "out-1.png").read_bytes() == b"edited"
    assert (photo.parent / "out-2.png").read_bytes() == b"second"
    assert not output.exists()
    assert b'name="variations"\r\n\r\n2' in server.body


@pytest.mark.parametrize(
    ("options", "sent", "written"),
    [
        ([], None, "me.edited.webp"),
        (["-o", "out.JPG"], b"jpeg", "out.JPG"),
        (["-o", "out.dat"], None, "out.dat"),
        (["-o", "out.png", "--format", "webp"], b"webp", "out.png"),
    ],
)
def test_the_file_type_follows_the_output(
    server: Server,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    sent: bytes | None,
    written: str,
) -> None:
    monkeypatch.chdir(photo.parent)
    metadata = EDITED.metadata.model_copy(update={"format": "webp"})
    server.reply = render(EDITED.model_copy(update={"metadata": metadata}))
    assert main(["edit", "me.jpg", "--regions", "hair", *options]) == 0
    assert Path(written).read_bytes() == b"edited"
    assert (b'name="format"' in server.body) == (sent is not None)
    assert sent is None or b"\r\n" + sent + b"\r\n" in server.body


def test_segment_writes_region_ids_or_a_colored_picture(server: Server, photo: Path) -> None:
    server.reply = render(SEGMENTED)
    output = photo.parent / "out.png"
    for options, expected in (([], LABELS), (["--colorize"], colorize_labels(LABELS))):
        assert main(["segment", str(photo), "-o", str(output), *options]) == 0
        with Image.open(io.BytesIO(output.read_bytes())) as image:
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_exit_statuses(server: Server, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit = ["edit", str(photo), "--regions", "hair"]
    server.reply = render_error(RequestError(422, "no hair", field="regions", remedy="use a mask"))
    assert main(edit) == 3
    assert "regions: no hair (use a mask)" in capsys.readouterr().err
    server.reply = render_error(RequestError(500, "broken", field=None, remedy="wait"))
    assert main(edit) == 4
    server.reply = None
    assert main(edit) == 4
    assert main(["upscale", str(photo.parent / "absent.jpg")]) == 1
    assert main(["edit", str(photo), "--regions", "beard"]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["edit"])
    assert caught.value.code == 2
    assert not (photo.parent / "me.edited.png").exists()


def test_ctrl_c_says_that_the_server_gives_up(
    server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.interrupt = True
    assert main(["edit", str(photo), "--regions", "hair"]) == 130
    assert capsys.readouterr().err.endswith(
        "canceled: the connection is closed, and the server gives the work up\n"
    )


def test_refusals_name_the_request(
    server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = render_error(RequestError(500, "broken", field=None, remedy="wait"))
    server.reply = Reply(500, "", {**reply.headers, "X-NPE-Request-Id": "a1"}, reply.body)
    assert main(["segment", str(photo)]) == 4
    assert "[500] broken (wait); request a1" in capsys.readouterr().err


def test_keys_come_from_the_environment_or_a_file(
    server: Server, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = Reply(200, "", {}, b'{"regions": ["hair"]}')
    monkeypatch.setenv("NPE_API_KEY", "npe_env")
    assert main(["info", "--server", "http://there"]) == 0
    assert json.loads(capsys.readouterr().out) == {"regions": ["hair"]}
    assert server.request.headers["authorization"] == "Bearer npe_env"
    assert str(server.request.url) == "http://there/v1/info"
    key_file = photo.with_name("key")
    key_file.write_text("npe_file\n")
    assert main(["info", "--key-file", str(key_file)]) == 0
    assert server.request.headers["authorization"] == "Bearer npe_file"
    key_file.write_bytes(b"npe_hunter2 \xff")
    assert main(["info", "--key-file", str(key_file)]) == 2
    assert main(["info", "--key-file", str(key_file.with_name("absent"))]) == 1
    assert main(["info", "--server", "nowhere"]) == 2
    assert "hunter2" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["info", "--api-key", "npe_on_the_command_line"])


def test_the_command_and_the_client_need_only_what_a_bare_install_has() -> None:
    extras = ("torch", "scipy", "yaml", "fsspec", "cryptography", "fastapi", "grpc", "hydra")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({extras!r})); "
        "import neural_photo_editor.cli as cli; cli.main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("npe ")
