"""Every check of a receipt on real edits: it passes, and for each way to cheat it fails."""

import base64
import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neural_photo_editor.api.codec import decode_photo, encode_png
from neural_photo_editor.api.receipt import Receipt
from neural_photo_editor.api.verification import Outcome, verify_receipt
from neural_photo_editor.editing.receipts import record_image
from tests.unit.api.signed_edits import (
    HEIGHT,
    KEY,
    MASK,
    OTHER_KEY,
    OTHER_PROFILE,
    UPLOADS,
    WIDTH,
    SignedEdit,
    make_upload,
    outcomes,
    png_of,
    signed_edit,
)
from tests.unit.editing.tiny_pipeline import mask_png

OK, UNPROVEN, FAILED = Outcome.OK, Outcome.UNPROVEN, Outcome.FAILED
ALL_OK = dict.fromkeys(("signature", "photo", "mask", "result", "locality"), OK)


@cache
def _edit(kind: str = "png") -> SignedEdit:
    return signed_edit(kind, color="#30c060")


def _repainted(data: bytes, row: int, column: int, channel: int = 0, *, change: int = 1) -> bytes:
    """Return a PNG of the picture with one byte of one pixel changed; channel 3 is alpha."""
    photo = decode_photo(data)
    rgb, alpha = photo.rgb.copy(), photo.alpha
    if channel == 3:
        alpha = np.full(photo.size, 255, np.uint8) if alpha is None else alpha.copy()
        alpha[row, column] ^= change
    else:
        rgb[row, column, channel] ^= change
    return png_of(rgb, alpha, photo.icc_profile)


def _detail(edit: SignedEdit, edited: bytes, name: str) -> str:
    checks = verify_receipt(edit.receipt, original=edit.original, edited=edited)
    return next(check.detail for check in checks if check.name == name)


@pytest.mark.parametrize("kind", UPLOADS)
def test_an_edit_of_any_upload_passes_and_a_pixel_changed_outside_fails(kind: str) -> None:
    edit = _edit(kind)
    assert outcomes(edit.receipt, edit.original, edit.edited) == ALL_OK
    assert edit.receipt.exact
    row, column = np.argwhere(~MASK)[-1]
    changed = _repainted(edit.edited, row, column)
    assert outcomes(edit.receipt, edit.original, changed) == {
        **ALL_OK,
        "result": FAILED,
        "locality": FAILED,
    }
    assert f"({column}, {row})" in _detail(edit, changed, "locality")


@settings(max_examples=40, deadline=None)
@given(
    row=st.integers(0, HEIGHT - 1),
    column=st.integers(0, WIDTH - 1),
    channel=st.integers(0, 3),
    bit=st.integers(0, 7),
)
def test_one_bit_anywhere_in_the_result(row: int, column: int, channel: int, bit: int) -> None:
    edit = _edit()
    found = outcomes(
        edit.receipt,
        edit.original,
        _repainted(edit.edited, row, column, channel, change=1 << bit),
    )
    # Inside the mask it is another result, though still a local one.
    locality = OK if MASK[row, column] else FAILED
    assert found == {**ALL_OK, "result": FAILED, "locality": locality}


@pytest.mark.parametrize("kind", ["png", "png-alpha", "jpeg"])
def test_another_photo_fails(kind: str) -> None:
    edit = _edit(kind)
    row, column = np.argwhere(~MASK)[0]
    nearly = _repainted(edit.original, row, column)
    found = outcomes(edit.receipt, nearly, edit.edited)
    assert found == {**ALL_OK, "photo": FAILED, "locality": FAILED}
    # The change is inside the mask: still another photo.
    row, column = np.argwhere(MASK)[0]
    hidden = _repainted(edit.original, row, column)
    assert outcomes(edit.receipt, hidden, edit.edited) == {**ALL_OK, "photo": FAILED}
    small = encode_png(np.zeros((HEIGHT, WIDTH - 1, 3), np.uint8))
    assert outcomes(edit.receipt, small, edit.edited)["locality"] == FAILED


def test_both_files_of_another_edit_fail_though_they_agree() -> None:
    edit, other = _edit("png"), _edit("jpeg")
    found = outcomes(edit.receipt, other.original, other.edited)
    assert found == {**ALL_OK, "photo": FAILED, "result": FAILED, "locality": FAILED}
    assert "other pixels than the receipt's" in next(
        check.detail
        for check in verify_receipt(edit.receipt, original=other.original, edited=other.edited)
        if check.name == "locality"
    )


def test_files_that_are_no_pictures_fail() -> None:
    edit = _edit()
    found = outcomes(edit.receipt, b"text", edit.edited[:999])
    assert found == {**ALL_OK, "photo": FAILED, "result": FAILED, "locality": FAILED}


def test_a_mask_at_hand_must_be_the_receipts() -> None:
    edit = _edit()
    assert outcomes(edit.receipt, edit.original, edit.edited, mask=mask_png(MASK)) == ALL_OK
    other = MASK.copy()
    other[0, 0] = True
    for wrong in (mask_png(other), mask_png(~MASK), mask_png(MASK[1:]), b"text"):
        found = outcomes(edit.receipt, edit.original, edit.edited, mask=wrong)
        assert (found["mask"], found["locality"]) == (FAILED, UNPROVEN)


def test_another_mask_in_the_receipt_fails_twice() -> None:
    edit = _edit()
    wide = signed_edit(mask=mask_png(np.ones_like(MASK)), color="#30c060").receipt.mask
    record = edit.receipt.mask
    for update in ({"png": wide.png}, {"sha256": wide.sha256}, {"pixels": wide.pixels}):
        forged = edit.receipt.model_copy(update={"mask": record.model_copy(update=update)})
        found = outcomes(forged, edit.original, edit.edited)
        assert (found["signature"], found["mask"]) == (FAILED, FAILED)
    # All of it exchanged, the digest, too: the signature tells.
    forged = edit.receipt.model_copy(update={"mask": wide})
    found = outcomes(forged, edit.original, edit.edited)
    assert (found["signature"], found["mask"]) == (FAILED, OK)


def test_keys() -> None:
    edit = _edit()
    for keys, outcome in (
        ([KEY.public_key], OK),
        ([OTHER_KEY.public_key, KEY.public_key], OK),
        ([OTHER_KEY.public_key], FAILED),
        ([], UNPROVEN),
    ):
        found = outcomes(edit.receipt, edit.original, edit.edited, trusted_keys=keys)
        assert found == {**ALL_OK, "signature": outcome}


def test_a_receipt_signed_anew_by_a_forger_is_not_the_servers() -> None:
    edit = _edit()
    row, column = np.argwhere(~MASK)[0]
    forged_result = _repainted(edit.edited, row, column)
    signature = signed_edit(color="#30c061").document["signature"]
    swapped = edit.receipt.model_copy(update={"signature": signature})
    assert outcomes(swapped, edit.original, edit.edited)["signature"] == FAILED
    unsigned = edit.receipt.model_copy(update={"signature": ""})
    assert outcomes(unsigned, edit.original, edit.edited)["signature"] == FAILED
    own = _signed_by_other(edit)
    assert outcomes(own, edit.original, edit.edited, trusted_keys=[])["signature"] == UNPROVEN
    assert outcomes(own, edit.original, edit.edited)["signature"] == FAILED
    posing = _signed_by_other(edit, key_id=KEY.key_id)
    assert outcomes(posing, edit.original, edit.edited, trusted_keys=[])["signature"] == FAILED
    assert outcomes(own, edit.original, forged_result, trusted_keys=[])["locality"] == FAILED


def _signed_by_other(edit: SignedEdit, *, key_id: str = OTHER_KEY.key_id) -> Receipt:
    own = edit.receipt.model_copy(
        update={
            "key_id": key_id,
            "public_key": base64.b64encode(OTHER_KEY.public_key).decode(),
        }
    )
    signature = base64.b64encode(OTHER_KEY.sign(own.signed_bytes())).decode()
    return own.model_copy(update={"signature": signature})


@pytest.mark.parametrize("kind", ["png", "png-alpha", "png-icc", "webp-alpha"])
def test_a_re_encoded_result_is_said_to_be_so(kind: str) -> None:
    edit = _edit(kind)
    with Image.open(io.BytesIO(edit.edited)) as image:
        buffer = io.BytesIO()
        profile = image.info.get("icc_profile")
        image.save(buffer, "WEBP", lossless=True, exact=True, icc_profile=profile)
    found = outcomes(edit.receipt, edit.original, buffer.getvalue())
    assert found == {**ALL_OK, "result": UNPROVEN}
    assert "re-encoded" in _detail(edit, buffer.getvalue(), "result")


def test_a_re_encoded_photo_is_said_to_be_so() -> None:
    edit = _edit("jpeg-rotated")
    photo = decode_photo(edit.original)
    found = outcomes(edit.receipt, png_of(photo.rgb), edit.edited)
    assert found == {**ALL_OK, "photo": UNPROVEN}


@pytest.mark.parametrize("profile", [None, OTHER_PROFILE])
def test_another_color_profile_makes_another_picture(profile: bytes | None) -> None:
    edit = _edit("png-icc")
    rgb = decode_photo(edit.edited).rgb
    changed = png_of(rgb, profile=profile)
    found = outcomes(edit.receipt, edit.original, changed)
    assert found == {**ALL_OK, "result": FAILED, "locality": FAILED}
    assert "profiles" in _detail(edit, changed, "locality")


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_jpeg_proves_no_locality_and_says_by_how_much(kind: str) -> None:
    edit = signed_edit(kind, color="#30c060", format="jpeg")
    assert not edit.receipt.exact
    assert outcomes(edit.receipt, edit.original, edit.edited) == {**ALL_OK, "locality": UNPROVEN}
    assert "JPEG" in _detail(edit, edit.edited, "locality")
    row, column = np.argwhere(~MASK)[0]
    changed = _repainted(edit.edited, row, column)
    found = outcomes(edit.receipt, edit.original, changed)
    assert found == {**ALL_OK, "result": FAILED, "locality": FAILED}


def test_a_server_cannot_call_a_png_a_jpeg() -> None:
    edit = _edit()
    row, column = np.argwhere(~MASK)[0]
    changed = _repainted(edit.edited, row, column)
    lie = edit.receipt.model_copy(
        update={
            "edit": edit.receipt.edit.model_copy(update={"format": "jpeg"}),
            "result": record_image(changed, MASK),
            "exact": False,
        }
    )
    signature = base64.b64encode(KEY.sign(lie.signed_bytes())).decode()
    signed = lie.model_copy(update={"signature": signature})
    found = outcomes(signed, edit.original, changed)
    assert found == {**ALL_OK, "locality": FAILED}


def test_a_jpeg_edited_as_a_whole_has_nothing_outside() -> None:
    whole = mask_png(np.ones_like(MASK))
    edit = signed_edit(mask=whole, color="#30c060", format="jpeg")
    assert outcomes(edit.receipt, edit.original, edit.edited) == ALL_OK


def test_without_the_mask_locality_is_open_until_it_is_given() -> None:
    edit = _edit()
    slim = edit.receipt.model_copy(
        update={"mask": edit.receipt.mask.model_copy(update={"png": None})}
    )
    found = outcomes(slim, edit.original, edit.edited)
    assert (found["mask"], found["locality"]) == (UNPROVEN, UNPROVEN)
    found = outcomes(slim, edit.original, edit.edited, mask=mask_png(MASK))
    assert (found["mask"], found["locality"]) == (OK, OK)


def test_a_16_bit_photo_is_compared_by_its_high_bytes() -> None:
    edit = _edit("png-16-bit")
    with Image.open(io.BytesIO(edit.original)) as image:
        values = np.asarray(image).astype(np.uint16)
    assert (values & 255).any()
    row, column = np.argwhere(~MASK)[0]
    for change, outcome in ((1, OK), (256, FAILED)):
        other = values.copy()
        other[row, column] ^= change
        buffer = io.BytesIO()
        Image.fromarray(other).save(buffer, "PNG")
        found = outcomes(edit.receipt, buffer.getvalue(), edit.edited)
        # Equal high bytes are the same pixels in another file.
        assert found["photo"] == (UNPROVEN if outcome is OK else FAILED)
        assert found["locality"] == outcome


def test_the_uploads_are_what_they_are_called() -> None:
    with Image.open(io.BytesIO(make_upload("jpeg-rotated"))) as image:
        assert image.size == (HEIGHT, WIDTH)
        assert image.getexif()[0x0112] == 6
    with Image.open(io.BytesIO(make_upload("jpeg-cmyk"))) as image:
        assert image.mode == "CMYK"
    with Image.open(io.BytesIO(make_upload("png-palette"))) as image:
        assert image.mode == "P"
    assert decode_photo(make_upload("png-icc")).icc_profile is not None
    assert decode_photo(make_upload("webp-alpha")).alpha is not None


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), cut=st.integers(0, 3000), bit=st.integers(0, 8 * 3000 - 1))
def test_damaged_files_fail_and_nothing_else_happens(data: bytes, cut: int, bit: int) -> None:
    edit = _edit()
    flipped = bytearray(edit.edited)
    flipped[bit // 8] ^= 1 << bit % 8
    assert len(flipped) > 3000
    for edited in (data, edit.edited[:cut], bytes(flipped)):
        found = outcomes(edit.receipt, edit.original, edited, mask=data)
        assert found["mask"] == FAILED
        # A flipped bit may be one that no pixel depends on.
        assert found["result"] in (FAILED, UNPROVEN)
