"""What a signer writes into receipts, and when it refuses to sign."""

import base64
import hashlib
import json
from typing import Any

import numpy as np
import pytest

import neural_photo_editor
from neural_photo_editor.api.codec import decode_mask, decode_photo, encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.receipt import MAX_EMBEDDED_BYTES, MAX_RECEIPT_BYTES, Receipt
from neural_photo_editor.api.schema import EditRequest, EditResult
from neural_photo_editor.api.validation import validate_request
from neural_photo_editor.api.verification import Outcome
from neural_photo_editor.editing import pipeline as pipeline_module
from neural_photo_editor.editing import receipts
from neural_photo_editor.editing.receipts import ReceiptSigner
from neural_photo_editor.editing.replay import replay_request
from tests.unit.api.signed_edits import KEY, outcomes, signed_edit
from tests.unit.editing.tiny_pipeline import (
    answer_one,
    edit_request,
    make_mask,
    make_photo,
    make_pipeline,
    mask_png,
)

ASKED = {"receipt": True, "response": "json"}


def _strokes(height: int, width: int, *, noise: bool = False) -> bytes:
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[10:20, 10:30] = (200, 30, 90, 255)
    if noise:
        rgba[...] = np.random.default_rng(0).integers(1, 256, rgba.shape)
    return encode_png(rgba[..., :3].copy(), alpha=rgba[..., 3].copy())


def test_every_variation_has_its_receipt() -> None:
    photo = make_photo(48, 64)
    request = edit_request(photo, color="#30c060", variations=3, seed=5, **ASKED)
    result = answer_one(make_pipeline(sign_receipts=ReceiptSigner(KEY)), request)
    assert len(result.receipts) == 3
    read = [Receipt.model_validate_json(_text(document)) for document in result.receipts]
    assert [receipt.edit.seed for receipt in read] == [5, 6, 7]
    for receipt, image in zip(read, result.images, strict=True):
        assert receipt.result.file_sha256 == hashlib.sha256(image).hexdigest()
        assert set(outcomes(receipt, request.photo, image).values()) == {Outcome.OK}
    crossed = outcomes(read[0], request.photo, result.images[1])
    assert crossed["result"] is Outcome.FAILED


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document)


def test_a_receipt_says_what_the_metadata_says() -> None:
    photo = make_photo(48, 64)
    request = edit_request(photo, color="#30c060", sampler="ddpm", steps=4, **ASKED)
    result = answer_one(make_pipeline(sign_receipts=ReceiptSigner(KEY)), request)
    receipt = Receipt.model_validate_json(_text(result.receipt))
    metadata = result.metadata
    shared = ("seed", "sampler", "steps", "resamples", "timestep", "detail", "blend", "format")
    for name in (*shared, "crop", "face"):
        assert getattr(receipt.edit, name) == metadata[name], name
    assert round(receipt.edit.strength, 6) == metadata.strength
    assert (receipt.width, receipt.height) == (metadata.width, metadata.height) == (64, 48)
    assert (receipt.exact, receipt.bundle_digest) == (metadata.exact, "abc123")
    assert receipt.mask.pixels == metadata.mask_pixels
    assert receipt.photo.file_sha256 == hashlib.sha256(request.photo).hexdigest()
    assert receipt.photo.size_bytes == len(request.photo)
    assert receipt.environment.program == neural_photo_editor.__version__
    assert receipt.environment.device == "cpu"


@pytest.mark.parametrize("source", ["mask", "regions", "strokes"])
def test_a_receipt_holds_the_mask_wherever_it_came_from(source: str) -> None:
    photo, mask = make_photo(48, 64), make_mask(48, 64)
    strokes = _strokes(48, 64)
    fields: dict[str, Any] = {
        "mask": {"mask": mask_png(mask)},
        "regions": {"regions": ("hair",)},
        "strokes": {"strokes": strokes},
    }[source]
    request = EditRequest(photo=encode_png(photo), seed=1, **fields, **ASKED)
    result = answer_one(make_pipeline(sign_receipts=ReceiptSigner(KEY)), request)
    receipt = Receipt.model_validate_json(_text(result.receipt))
    assert receipt.mask.source == source
    assert receipt.mask.png is not None
    held = decode_mask(base64.b64decode(receipt.mask.png), size=(48, 64))
    if source == "regions":
        before, after = decode_photo(request.photo).rgb, decode_photo(result.image).rgb
        assert not (before != after).any(axis=-1)[~held].any()
        assert receipt.edit.regions == ("hair",)
    else:
        expected = mask if source == "mask" else decode_strokes_mask(strokes)
        np.testing.assert_array_equal(held, expected)
    assert held.sum() == receipt.mask.pixels == result.metadata.mask_pixels


def decode_strokes_mask(strokes: bytes) -> np.ndarray:
    alpha = decode_photo(strokes).alpha
    assert alpha is not None
    return alpha > 0


def test_files_too_large_are_left_out_and_the_receipt_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = make_photo(48, 64)
    strokes = _strokes(48, 64, noise=True)
    small = signed_edit(strokes=strokes).receipt
    assert small.replayable
    assert small.strokes is not None
    assert small.strokes.content == base64.b64encode(strokes).decode()
    monkeypatch.setattr(receipts, "MAX_EMBEDDED_BYTES", len(strokes))  # but for the mask
    large = signed_edit(strokes=strokes).receipt
    assert not large.replayable
    assert large.strokes == small.strokes.model_copy(update={"content": None})
    with pytest.raises(ValueError, match="too large"):
        replay_request(large, encode_png(photo))
    monkeypatch.setattr(receipts, "MAX_EMBEDDED_BYTES", 0)
    without_mask = signed_edit(mask=mask_png(make_mask(48, 64))).receipt
    assert without_mask.mask.png is None
    assert not without_mask.replayable
    # Regions need no mask to be found again.
    assert signed_edit("png", regions=("hair", "background")).receipt.replayable


def test_a_full_receipt_is_within_the_limit_of_reading() -> None:
    assert MAX_EMBEDDED_BYTES * 4 / 3 + 16_384 < MAX_RECEIPT_BYTES


def test_without_a_key_receipts_are_refused_before_any_work() -> None:
    pipeline = make_pipeline()
    good, refused = pipeline.run([edit_request(make_photo()), edit_request(make_photo(), **ASKED)])
    assert isinstance(good, EditResult)
    assert good.receipts == ()
    assert isinstance(refused, RequestError)
    assert (refused.status, refused.field) == (422, "receipt")
    assert "NPE_RECEIPT_KEY" in refused.remedy


def test_with_a_key_only_those_who_ask_get_receipts() -> None:
    pipeline = make_pipeline(sign_receipts=ReceiptSigner(KEY))
    without, with_one = pipeline.run(
        [edit_request(make_photo()), edit_request(make_photo(), **ASKED)]
    )
    assert isinstance(without, EditResult)
    assert isinstance(with_one, EditResult)
    assert without.receipts == ()
    assert len(with_one.receipts) == 1
    assert without.image == with_one.image


def test_what_changed_outside_the_mask_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = pipeline_module.finish_edit

    def careless(*arguments: Any, **options: Any) -> np.ndarray:
        finished = finish(*arguments, **options)
        finished[0, 0, 0] ^= 1
        return finished

    monkeypatch.setattr(pipeline_module, "finish_edit", careless)
    pipeline = make_pipeline(sign_receipts=ReceiptSigner(KEY))
    (answer,) = pipeline.run([edit_request(make_photo(), **ASKED)])
    assert isinstance(answer, RequestError)
    assert answer.status == 500
    # A JPEG promises nothing of the kind, and its receipt says so.
    jpeg = answer_one(pipeline, edit_request(make_photo(), format="jpeg", **ASKED))
    assert jpeg.receipt["exact"] is False


def test_a_receipt_needs_a_json_response() -> None:
    fields = {"photo": b"p", "mask": b"m", "receipt": True}
    with pytest.raises(RequestError) as caught:
        validate_request(EditRequest, fields)
    assert (caught.value.status, caught.value.field) == (422, "receipt")
    assert "response=json" in caught.value.remedy
    assert validate_request(EditRequest, {**fields, "response": "json"}).receipt


def test_no_field_of_a_request_is_forgotten() -> None:
    """A field that changes the edit belongs into the receipt, or the edit cannot be replayed."""
    edit = signed_edit(color="#30c060").receipt
    recorded = {"photo", "mask", "strokes", "strength_map", *edit.edit.model_dump()}
    about_the_reply = {"response", "receipt", "variations"}
    assert set(EditRequest.model_fields) - about_the_reply <= recorded
