"""Real edits of a tiny pipeline with their receipts, and uploads of many kinds to make them of."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.receipt import Receipt, read_receipt
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.api.signing import SigningKey
from neural_photo_editor.api.verification import Outcome, verify_receipt
from neural_photo_editor.editing.receipts import ReceiptSigner
from tests.unit.editing.tiny_pipeline import answer_one, make_mask, make_pipeline, mask_png

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(range(1, 33)))
HEIGHT, WIDTH = 48, 64
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OTHER_PROFILE = PROFILE[:-1] + bytes([PROFILE[-1] ^ 1])

UPLOADS = (
    "png", "png-alpha", "png-icc", "png-16-bit", "png-gray", "png-palette", "jpeg",
    "jpeg-rotated", "jpeg-cmyk", "webp", "webp-alpha",
)  # fmt: skip
MASK = make_mask(HEIGHT, WIDTH)


@dataclass(frozen=True)
class SignedEdit:
    """An upload, what came back, and its receipt as the server sent it."""

    original: bytes
    edited: bytes
    document: dict[str, Any]

    @property
    def receipt(self) -> Receipt:
        return read_receipt(json.dumps(self.document).encode())


def make_upload(kind: str = "png") -> bytes:
    """Return a file of noise, WIDTH x HEIGHT once upright."""
    rng = np.random.default_rng(5)
    rgba = rng.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    image = Image.fromarray(rgba if "alpha" in kind else rgba[..., :3])
    options: dict[str, Any] = {}
    if kind == "png-icc":
        options["icc_profile"] = PROFILE
    elif kind == "png-16-bit":
        image = Image.fromarray(rng.integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16))
    elif kind == "png-gray":
        image = image.convert("L")
    elif kind == "png-palette":
        image = image.convert("P")
    elif kind == "jpeg-cmyk":
        image = image.convert("CMYK")
    elif kind == "jpeg-rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image, options["exif"] = image.transpose(Image.Transpose.ROTATE_90), exif
    buffer = io.BytesIO()
    image.save(buffer, kind.split("-")[0], **options)
    return buffer.getvalue()


def signed_edit(kind: str = "png", **fields: Any) -> SignedEdit:
    """Return an edit of ``make_upload(kind)``, by default of MASK in a color."""
    original = make_upload(kind)
    if "regions" not in fields and "strokes" not in fields:
        fields = {"mask": mask_png(MASK), **fields}
    fields = {"seed": 7, "receipt": True, "response": "json", **fields}
    pipeline = make_pipeline(sign_receipts=ReceiptSigner(KEY))
    result = answer_one(pipeline, EditRequest(photo=original, **fields))
    return SignedEdit(original, result.image, result.receipt)


def outcomes(
    receipt: Receipt, original: bytes, edited: bytes, **options: Any
) -> dict[str, Outcome]:
    """Return the outcome of every check by its name; KEY is trusted unless said otherwise."""
    options = {"trusted_keys": [KEY.public_key], **options}
    checks = verify_receipt(receipt, original=original, edited=edited, **options)
    assert all(check.detail for check in checks)
    return {check.name: check.outcome for check in checks}


def png_of(
    pixels: np.ndarray, alpha: np.ndarray | None = None, profile: bytes | None = None
) -> bytes:
    return encode_png(np.ascontiguousarray(pixels), alpha=alpha, icc_profile=profile)
