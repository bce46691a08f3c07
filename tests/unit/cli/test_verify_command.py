"""npe verify and npe receipt-key: files in, lines and exit statuses out."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neural_photo_editor.api.codec import decode_photo
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.api.signing import KEY_VARIABLE, SigningKey, key_to_text
from neural_photo_editor.cli import main
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.receipts import ReceiptSigner
from tests.unit.api.signed_edits import KEY, MASK, OTHER_KEY, make_upload, png_of
from tests.unit.editing.staged_bundle import staged_bundle
from tests.unit.editing.tiny_pipeline import mask_png

PUBLIC = key_to_text(KEY.public_key)
OTHER_PUBLIC = key_to_text(OTHER_KEY.public_key)


@dataclass(frozen=True)
class Files:
    """An edit on disk: original, edited, receipt, and the bundle that made it."""

    folder: Path

    @property
    def arguments(self) -> list[str]:
        names = ("original.png", "edited.png", "receipt.json")
        return ["verify", *(str(self.folder / name) for name in names)]

    @property
    def bundle(self) -> str:
        return str(self.folder / "bundle")

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def bundle_and_edit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, EditResult]:
    bundle = staged_bundle(tmp_path_factory.mktemp("cli"))
    pipeline = EditPipeline.from_bundle(bundle)
    pipeline.sign_receipts = ReceiptSigner(KEY)
    photo = make_upload()
    request = EditRequest(
        photo=photo, mask=mask_png(MASK), color="#30c060", receipt=True, response="json"
    )
    (result,) = pipeline.run([request])
    assert isinstance(result, EditResult), result
    return bundle, photo, result


@pytest.fixture
def files(bundle_and_edit: tuple[Path, bytes, EditResult], tmp_path: Path) -> Files:
    bundle, photo, result = bundle_and_edit
    (tmp_path / "bundle").symlink_to(bundle)
    (tmp_path / "original.png").write_bytes(photo)
    result.save(tmp_path / "edited.png")
    (tmp_path / "receipt.json").write_text(json.dumps(result.receipt, indent=2))
    (tmp_path / "mask.png").write_bytes(mask_png(MASK))
    return Files(tmp_path)


def _lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert all(len(line) == 3 for line in lines)  # Each says why.
    return {name: outcome for name, outcome, _ in lines}


def test_everything_is_proven_with_key_and_bundle(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--public-key",
        PUBLIC,
        "--bundle",
        files.bundle,
        "--mask",
        str(files.path("mask.png")),
    ]
    assert main([*files.arguments, *options]) == 0
    names = ("signature", "photo", "mask", "result", "locality", "replay")
    assert _lines(capsys) == dict.fromkeys(names, "OK")


def test_without_a_key_the_origin_is_open(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files.arguments) == 7
    lines = _lines(capsys)
    assert lines.pop("signature") == "UNPROVEN"
    assert set(lines.values()) == {"OK"}


def test_a_changed_pixel_fails_and_json_says_where(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = decode_photo(files.path("edited.png").read_bytes()).rgb.copy()
    edited[0, 3, 1] ^= 1
    files.path("edited.png").write_bytes(png_of(edited))
    assert main([*files.arguments, "--public-key", PUBLIC, "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    outcomes = {check["name"]: check["outcome"] for check in document["checks"]}
    assert outcomes == {
        "signature": "OK", "photo": "OK", "mask": "OK", "result": "FAILED", "locality": "FAILED",
    }  # fmt: skip
    assert document["key_id"] == KEY.key_id
    assert "(3, 0)" in document["checks"][-1]["detail"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"{PUBLIC}\n", 0),
        (f"{OTHER_PUBLIC}\n{PUBLIC}\n", 0),
        (OTHER_PUBLIC, 6),
        ("", 1),
        ("no key", 1),
    ],
)
def test_keys_in_a_file(files: Files, text: str, status: int) -> None:
    files.path("server.pub").write_text(text)
    assert main([*files.arguments, "--public-key", str(files.path("server.pub"))]) == status


def test_a_receipt_that_was_changed_is_not_replayed(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = json.loads(files.path("receipt.json").read_text())
    receipt["edit"]["color"] = "#c03060"
    files.path("receipt.json").write_text(json.dumps(receipt))
    replay = ["--public-key", PUBLIC, "--bundle", files.bundle]
    assert main([*files.arguments, *replay]) == 6
    lines = _lines(capsys)
    assert (lines["signature"], lines["replay"], lines["locality"]) == ("FAILED", "UNPROVEN", "OK")


def test_with_another_photo_nothing_is_replayed(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    files.path("original.png").write_bytes(make_upload("jpeg"))
    assert main([*files.arguments, "--public-key", PUBLIC, "--bundle", files.bundle]) == 6
    lines = _lines(capsys)
    assert (lines["photo"], lines["replay"]) == ("FAILED", "UNPROVEN")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("receipt.json", b"{}"),
        ("receipt.json", b"[" * 100_000),
        ("receipt.json", b" " * 3_000_000),
        ("receipt.json", None),
        ("original.png", None),
    ],
)
def test_files_that_cannot_be_used(
    files: Files, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    files.path(name).unlink()
    if content is not None:
        files.path(name).write_bytes(content)
    assert main(files.arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("npe: ")
    assert captured.out == ""


def test_a_bundle_that_is_none(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files.arguments, "--bundle", str(files.folder / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_without_cryptography_it_says_what_to_install(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.startswith("cryptography"):
            monkeypatch.setitem(sys.modules, name, None)
    for name in ("signing", "verification"):
        monkeypatch.delitem(sys.modules, f"neural_photo_editor.api.{name}", raising=False)
    assert main(files.arguments) == 1
    assert "neural-photo-editor[receipts]" in capsys.readouterr().err


def test_only_replaying_needs_torch(files: Files) -> None:
    program = (
        "import sys; from neural_photo_editor.cli import main; "
        f"status = main({files.arguments!r}); "
        "sys.exit(99 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 7, done.stderr


def test_a_new_key_signs_and_stays_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receipt.env"
    assert main(["receipt-key", "new", str(path)]) == 0
    public = capsys.readouterr().out.strip()
    name, _, secret = path.read_text().strip().partition("=")
    key = SigningKey.from_environment({name: secret})
    assert key is not None
    assert name == KEY_VARIABLE
    assert key_to_text(key.public_key) == public
    assert secret not in public
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert main(["receipt-key", "new", str(path)]) == 1
    assert path.read_bytes() == before
    monkeypatch.setenv(name, secret)
    capsys.readouterr()
    assert main(["receipt-key", "show"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == public
    assert key.key_id in captured.err
    assert secret not in captured.out + captured.err


@pytest.mark.parametrize("value", [None, "nonsense"])
def test_no_key_to_show(
    value: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(KEY_VARIABLE, value)
    assert main(["receipt-key", "show"]) == 1
    assert KEY_VARIABLE in capsys.readouterr().err


def test_two_keys_differ(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["receipt-key", "new", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()
