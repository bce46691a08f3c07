"""An edit is made again from its receipt to the byte, and anything changed shows."""

import base64
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.image_encoding import encode_image
from neural_photo_editor.api.receipt import Receipt, canonical_json, read_receipt
from neural_photo_editor.api.schema import EditRequest, EditResult, SegmentRequest, SegmentResult
from neural_photo_editor.api.verification import Outcome
from neural_photo_editor.artifacts.bundle import ServingDefaults, build_bundle
from neural_photo_editor.editing.acceleration import Acceleration
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.editing.receipts import ReceiptSigner
from neural_photo_editor.editing.replay import check_replay, replay_request, unpacked_bundle
from neural_photo_editor.networks.inference import native_dtype
from tests.unit.api.signed_edits import HEIGHT, KEY, MASK, WIDTH, make_upload
from tests.unit.editing.staged_bundle import staged_bundle
from tests.unit.editing.tiny_pipeline import mask_png

OK, UNPROVEN, FAILED = Outcome.OK, Outcome.UNPROVEN, Outcome.FAILED


def _strokes() -> bytes:
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[12:30, 20:40] = (200, 30, 90, 180)
    return encode_png(rgba[..., :3].copy(), alpha=rgba[..., 3].copy())


def _gray() -> bytes:
    ramp = np.linspace(40, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    return encode_png(ramp.astype(np.uint8))


# Timestep 500 is beyond strength 1.
EDITS: dict[str, tuple[str, dict[str, Any]]] = {
    "color": ("png", {"mask": mask_png(MASK), "color": "#30c060", "strength": 0.37}),
    "fill": ("jpeg", {"mask": mask_png(MASK), "steps": 2, "resamples": 2}),
    "by-timestep": ("png-alpha", {"mask": mask_png(MASK), "color": "#30c060", "timestep": 500}),
    "strokes": ("png-icc", {"strokes": _strokes(), "sampler": "ddpm"}),
    "masked-strokes": ("jpeg-rotated", {"mask": mask_png(MASK), "strokes": _strokes()}),
    "strength-map": (
        "png",
        {"strokes": _strokes(), "strength_map": _gray(), "strength": 0.8},
    ),
    "as-jpeg": ("png-gray", {"mask": mask_png(MASK), "color": "#123456", "format": "jpeg"}),
    "as-webp": ("webp-alpha", {"mask": mask_png(MASK), "detail": "model", "blend": "feather"}),
    "16-bit": ("png-16-bit", {"mask": mask_png(MASK), "color": "#c03060", "detail": "mixed"}),
}


class Served:
    """What a server with a key answered when all requests came together."""

    def __init__(self, bundle: Path) -> None:
        pipeline = EditPipeline.from_bundle(bundle)
        pipeline.sign_receipts = ReceiptSigner(KEY)
        self.bundle = bundle
        self.requests = {
            name: EditRequest(
                photo=make_upload(kind),
                seed=number,
                variations=2,
                receipt=True,
                response="json",
                **fields,
            )
            for number, (name, (kind, fields)) in enumerate(EDITS.items())
        }
        answers = pipeline.run(list(self.requests.values()))
        self.results = dict(zip(self.requests, answers, strict=True))

    def edit(self, name: str, variation: int = 0) -> tuple[Receipt, bytes, bytes]:
        """Return receipt, photo and result."""
        result = self.results[name]
        assert isinstance(result, EditResult), result
        receipt = read_receipt(canonical_json(result.receipts[variation]))
        return receipt, self.requests[name].photo, result.images[variation]

    def replay(self, receipt: Receipt, photo: bytes, edited: bytes) -> Outcome:
        check = check_replay(receipt, photo=photo, edited=edited, bundle=self.bundle)
        assert check.detail
        return check.outcome


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(staged_bundle(tmp_path_factory.mktemp("served")))


@pytest.mark.parametrize("name", EDITS)
def test_the_same_bytes_come_out_again(served: Served, name: str) -> None:
    for variation in (0, 1):
        receipt, photo, edited = served.edit(name, variation)
        assert receipt.replayable
        assert served.replay(receipt, photo, edited) is OK


def test_an_edit_of_regions_comes_out_again(served: Served) -> None:
    pipeline = EditPipeline.from_bundle(served.bundle)
    pipeline.sign_receipts = ReceiptSigner(KEY)
    photo = make_upload("png")
    # What random networks call a region is not known beforehand.
    (labels,) = pipeline.run([SegmentRequest(photo=photo)])
    assert isinstance(labels, SegmentResult), labels
    present = next(region.name for region in labels.metadata.regions if region.pixels)
    request = EditRequest(photo=photo, regions=(present,), receipt=True, response="json")
    (result,) = pipeline.run([request])
    assert isinstance(result, EditResult), result
    receipt = read_receipt(canonical_json(result.receipt))
    assert receipt.mask.source == "regions"
    assert served.replay(receipt, photo, result.image) is OK


def test_the_precision_travels(served: Served) -> None:
    pipeline = EditPipeline.from_bundle(
        served.bundle, acceleration=Acceleration(precision="float32")
    )
    pipeline.sign_receipts = ReceiptSigner(KEY, precision="float32")
    whole = mask_png(np.ones_like(MASK))  # Few pixels would round to other bytes.
    request = EditRequest(
        photo=make_upload(), mask=whole, detail="model", seed=3, receipt=True, response="json"
    )
    (result,) = pipeline.run([request])
    assert isinstance(result, EditResult), result
    receipt = read_receipt(canonical_json(result.receipt))
    assert served.replay(receipt, request.photo, result.image) is OK
    if native_dtype() != torch.float32:
        environment = receipt.environment.model_copy(update={"precision": "auto"})
        wrong = receipt.model_copy(update={"environment": environment})
        assert served.replay(wrong, request.photo, result.image) is FAILED


CHANGES: dict[str, Callable[[Receipt], Receipt]] = {
    "seed": lambda receipt: _with_edit(receipt, seed=receipt.edit.seed + 1),
    "strength": lambda receipt: _with_edit(receipt, strength=0.5),
    "steps": lambda receipt: _with_edit(receipt, steps=2),
    "sampler": lambda receipt: _with_edit(receipt, sampler="ddpm"),
    "color": lambda receipt: _with_edit(receipt, color="#30c061"),
    "detail": lambda receipt: _with_edit(receipt, detail="model"),
    "blend": lambda receipt: _with_edit(receipt, blend="gradient"),
    "no paint": lambda receipt: _with_edit(receipt, color=None),
    "mask": lambda receipt: receipt.model_copy(
        update={
            "mask": receipt.mask.model_copy(
                update={"png": base64.b64encode(mask_png(~MASK)).decode()}
            )
        }
    ),
}


def _with_edit(receipt: Receipt, **changes: Any) -> Receipt:
    return receipt.model_copy(update={"edit": receipt.edit.model_copy(update=changes)})


@pytest.mark.parametrize("change", CHANGES)
def test_another_parameter_makes_another_edit(served: Served, change: str) -> None:
    receipt, photo, edited = served.edit("color")
    assert served.replay(CHANGES[change](receipt), photo, edited) is FAILED


def test_another_photo_makes_another_edit(served: Served) -> None:
    receipt, _, edited = served.edit("color")
    assert served.replay(receipt, make_upload("jpeg"), edited) is FAILED
    small = encode_png(np.zeros((HEIGHT - 1, WIDTH, 3), np.uint8))
    assert served.replay(receipt, small, edited) is FAILED  # The mask does not fit.


def test_another_bundle_is_told(served: Served, tmp_path: Path) -> None:
    receipt, photo, edited = served.edit("color")
    other = staged_bundle(tmp_path, seed=1)
    check = check_replay(receipt, photo=photo, edited=edited, bundle=other)
    assert check.outcome is FAILED
    assert receipt.bundle_digest[:12] in check.detail
    # Its networks do make another edit.
    digest = EditPipeline.from_bundle(other).bundle_digest
    posing = receipt.model_copy(update={"bundle_digest": digest})
    assert check_replay(posing, photo=photo, edited=edited, bundle=other).outcome is FAILED


def test_a_changed_result_is_told_from_one_re_encoded(served: Served) -> None:
    receipt, photo, edited = served.edit("color")
    again = decode_photo(edited).rgb.copy()
    with Image.open(io.BytesIO(edited)) as image:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", lossless=True, exact=True)
    unknown = receipt.model_copy(
        update={"result": receipt.result.model_copy(update={"file_sha256": "0" * 64})}
    )
    assert served.replay(unknown, photo, buffer.getvalue()) is OK
    again[0, 0, 0] ^= 1
    assert served.replay(unknown, photo, encode_png(again)) is FAILED
    assert served.replay(unknown, photo, encode_png(again[1:].copy())) is FAILED
    # What the receipt is for does come out; that this file is another one is the result's check.
    assert served.replay(receipt, photo, encode_png(again)) is OK


def _slightly_changed(edited: bytes, levels: int) -> bytes:
    rgb = decode_photo(edited).rgb.copy()
    row, column = np.argwhere(MASK)[0]
    rgb[row, column] = rgb[row, column] ^ levels
    return encode_png(rgb)


def test_on_another_machine_a_small_difference_proves_nothing(served: Served) -> None:
    receipt, photo, edited = served.edit("color")
    elsewhere = receipt.environment.model_copy(update={"torch": "2.9.9"})
    moved = receipt.model_copy(update={"environment": elsewhere})
    assert served.replay(moved, photo, edited) is OK
    signed = {"result": receipt.result.model_copy(update={"file_sha256": "0" * 64})}
    near, far = (_slightly_changed(edited, levels) for levels in (1, 64))
    assert served.replay(moved.model_copy(update=signed), photo, near) is UNPROVEN
    assert served.replay(receipt.model_copy(update=signed), photo, near) is FAILED
    # A server that lies about where it was made gains no more than that.
    assert served.replay(moved.model_copy(update=signed), photo, far) is FAILED
    assert served.replay(_with_edit(moved, seed=99), photo, edited) is FAILED


def test_what_a_jpeg_makes_of_a_small_difference_proves_nothing(served: Served) -> None:
    receipt, photo, _ = served.edit("as-jpeg")
    environment = receipt.environment.model_copy(update={"torch": "2.9.9"})
    update = {
        "environment": environment,
        "result": receipt.result.model_copy(update={"file_sha256": "0" * 64}),
    }
    moved = receipt.model_copy(update=update)
    request = replay_request(receipt, photo).model_copy(update={"format": "png"})
    (exact,) = EditPipeline.from_bundle(served.bundle).run([request])
    assert isinstance(exact, EditResult), exact
    rgb = decode_photo(exact.image).rgb.copy()
    for levels, outcome in ((1, UNPROVEN), (64, FAILED)):
        rounded = rgb.copy()
        rounded[MASK] ^= levels
        jpeg = encode_image(rounded, format="jpeg")
        assert served.replay(moved, photo, jpeg) is outcome


def test_a_receipt_does_not_decide_what_a_replay_costs(served: Served) -> None:
    receipt, photo, edited = served.edit("color")
    many = receipt.environment.model_copy(update={"threads": 10**9})
    moved = receipt.model_copy(update={"environment": many})
    assert served.replay(moved, photo, edited) in (OK, UNPROVEN)
    assert torch.get_num_threads() <= (os.cpu_count() or 1)
    longest = _with_edit(receipt, steps=1000, resamples=20, strength=1.0)
    check = check_replay(longest, photo=photo, edited=edited, bundle=served.bundle)
    assert check.outcome is FAILED
    assert "refused when replayed" in check.detail


def test_where_batches_change_bits_a_difference_proves_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, photo, edited = served.edit("color")
    signed = {"result": receipt.result.model_copy(update={"file_sha256": "0" * 64})}
    other, near = receipt.model_copy(update=signed), _slightly_changed(edited, 1)
    assert served.replay(other, photo, near) is FAILED
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert served.replay(other, photo, near) is UNPROVEN


def test_what_is_missing_cannot_be_replayed(served: Served) -> None:
    receipt, photo, edited = served.edit("strokes")
    assert receipt.strokes is not None
    absent = receipt.strokes.model_copy(update={"content": None})
    assert served.replay(receipt.model_copy(update={"strokes": absent}), photo, edited) is UNPROVEN
    # What is there is replayed, whatever the receipt says.
    assert served.replay(receipt.model_copy(update={"replayable": False}), photo, edited) is OK
    other = receipt.strokes.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ValueError, match="another one"):
        replay_request(receipt.model_copy(update={"strokes": other}), photo)


def test_a_damaged_bundle_is_refused(served: Served, tmp_path: Path) -> None:
    receipt, photo, edited = served.edit("color")
    bundle = staged_bundle(tmp_path)
    weights = bundle / "artifacts" / "denoiser" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        check_replay(receipt, photo=photo, edited=edited, bundle=bundle)


def test_an_archive_is_as_good_as_a_folder(served: Served, tmp_path: Path) -> None:
    receipt, photo, edited = served.edit("color")
    archive = build_bundle(
        served.bundle.parent / "registry",
        denoiser="denoiser@1",
        segmenter="segmenter@1",
        upscaler="upscaler@1",
        defaults=ServingDefaults(steps=3, feather_px=2),
        handler=Path("serve/handler.py"),
        out_dir=tmp_path,
    )
    for path in (archive, tmp_path):
        with unpacked_bundle(path) as folder:
            assert not (folder / "handler.py").exists()
            check = check_replay(receipt, photo=photo, edited=edited, bundle=folder)
        assert check.outcome is OK
    with unpacked_bundle(served.bundle) as folder:
        assert folder == served.bundle
    archive.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match="no whole archive"), unpacked_bundle(archive):
        pass
