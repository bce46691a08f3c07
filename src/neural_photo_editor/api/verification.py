"""Does a receipt belong to these two files, and do they agree outside the mask?

The pictures are decoded and compared here, so locality does not rest on the server's word. Whether
the models made the edit is another question: :mod:`editing.replay` answers it with the bundle.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from neural_photo_editor.api.canonical_pixels import (
    RECEIPT_LIMITS,
    Mask,
    difference_outside,
    mask_digest,
    pixels_digest,
)
from neural_photo_editor.api.codec import DecodedPhoto, decode_mask, decode_photo
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.receipt import ImageRecord, Receipt, decode_content
from neural_photo_editor.api.signing import is_signed_by, key_from_text, key_id_of


class Outcome(StrEnum):
    """UNPROVEN: nothing speaks against it, and what is at hand does not show it either."""

    OK = "OK"
    UNPROVEN = "UNPROVEN"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Check:
    """One question about a receipt and its answer; detail is a sentence for people."""

    name: str
    outcome: Outcome
    detail: str


def verify_receipt(
    receipt: Receipt,
    *,
    original: bytes,
    edited: bytes,
    trusted_keys: Collection[bytes] = (),
    mask: bytes | None = None,
) -> list[Check]:
    """Check a receipt's signature, both files, the mask and the pixels outside it.

    Args:
        original, edited: image files: the photo that was sent and the one that came back.
        trusted_keys: public keys of whom the edit may be from; with none, the signature shows that
            the receipt was not changed but not whose it is.
        mask: the mask's image file, to compare with the receipt's.
    """
    signature = _check_signature(receipt, trusted_keys)
    known_mask, mask_check = _check_mask(receipt, mask)
    before, photo_check = _check_file("photo", original, receipt.photo)
    after, result_check = _check_file("result", edited, receipt.result)
    if before is None or after is None:
        locality = _failed("locality", "not both files can be decoded")
    elif known_mask is None:
        locality = Check(
            "locality", Outcome.UNPROVEN, "the mask is not at hand: give its file with --mask"
        )
    else:
        locality = _check_locality(receipt, before, after, known_mask)
    return [signature, photo_check, mask_check, result_check, locality]


def _check_signature(receipt: Receipt, trusted_keys: Collection[bytes]) -> Check:
    name = "signature"
    public_key = key_from_text(receipt.public_key)
    signature = decode_content(receipt.signature)
    if not is_signed_by(public_key, signature, receipt.signed_bytes()):
        return _failed(name, "the receipt is not as it was signed")
    if receipt.key_id != key_id_of(public_key):
        return _failed(name, "the receipt calls its key by another key's id")
    if not trusted_keys:
        return Check(
            name,
            Outcome.UNPROVEN,
            f"the receipt is as key {receipt.key_id} signed it, and anyone can make a key: "
            "give the server's with --public-key",
        )
    if public_key not in trusted_keys:
        known = ", ".join(sorted(key_id_of(key) for key in trusted_keys))
        return _failed(name, f"signed with key {receipt.key_id}, trusted: {known}")
    return _ok(name, f"signed with key {receipt.key_id} on {receipt.time}")


def _check_file(name: str, data: bytes, record: ImageRecord) -> tuple[DecodedPhoto | None, Check]:
    """Compare a file with its record, and, where it is another file, its pixels."""
    try:
        photo = decode_photo(data, field=name, limits=RECEIPT_LIMITS)
    except RequestError as error:
        return None, _failed(name, f"the file cannot be decoded: {error.detail}")
    if hashlib.sha256(data).hexdigest() == record.file_sha256:
        return photo, _ok(name, f"the same {record.size_bytes:,} bytes")
    if pixels_digest(photo) == record.pixels_sha256:
        detail = "re-encoded: another file, with the same pixels and color profile"
        return photo, Check(name, Outcome.UNPROVEN, detail)
    return photo, _failed(name, "another picture than the receipt is for")


def _check_mask(receipt: Receipt, given: bytes | None) -> tuple[Mask | None, Check]:
    """Return the receipt's mask, if it is at hand, and whether it is the one that was signed."""
    name, record = "mask", receipt.mask
    try:
        files = [] if record.png is None else [decode_content(record.png)]
    except ValueError as error:
        return None, _failed(name, str(error))
    files += [] if given is None else [given]
    if not files:
        return None, Check(
            name, Outcome.UNPROVEN, "too large for the receipt: give its file with --mask"
        )
    mask = None
    for data in files:
        try:
            mask = decode_mask(data, size=(receipt.height, receipt.width), limits=RECEIPT_LIMITS)
        except RequestError as error:
            return None, _failed(name, f"the mask cannot be used: {error.detail}")
        if mask_digest(mask) != record.sha256 or int(mask.sum()) != record.pixels:
            return None, _failed(name, "another mask than the receipt is for")
    return mask, _ok(name, f"{record.pixels:,} pixels were allowed to change")


def _check_locality(
    receipt: Receipt, before: DecodedPhoto, after: DecodedPhoto, mask: Mask
) -> Check:
    name = "locality"
    if not before.size == after.size == mask.shape:
        return _failed(name, "photo, result and mask are of different sizes")
    digests = pixels_digest(before, outside=mask), pixels_digest(after, outside=mask)
    signed = receipt.photo.outside_sha256, receipt.result.outside_sha256
    difference = difference_outside(before, after, mask)
    changed = int(np.count_nonzero(difference))
    if changed:
        detail = f"{changed:,} pixels outside the mask differ, by up to {difference.max()} of 255"
        # The file itself must be a JPEG, whatever the receipt says.
        if receipt.edit.format == after.format == "jpeg" and digests == signed:
            detail += ": a JPEG keeps no pixel exactly, ask for png or webp"
            return Check(name, Outcome.UNPROVEN, detail)
        row, column = np.argwhere(difference)[0]
        return _failed(name, f"{detail}; the first is at ({column}, {row})")
    if digests[0] != digests[1]:
        return _failed(name, "the color profiles differ, so the same numbers are other colors")
    if digests != signed:
        return _failed(name, "both files agree, but with other pixels than the receipt's")
    return _ok(name, f"all {mask.size - receipt.mask.pixels:,} pixels outside the mask are equal")


def _ok(name: str, detail: str) -> Check:
    return Check(name, Outcome.OK, detail)


def _failed(name: str, detail: str) -> Check:
    return Check(name, Outcome.FAILED, detail)
