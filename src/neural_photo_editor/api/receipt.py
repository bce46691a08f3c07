"""Signed receipts of edits: what was edited, how, by which models, and that the rest stayed.

A receipt is a JSON object of exactly the fields of :class:`Receipt`. Its signature is Ed25519 over
the ASCII line ``neural-photo-editor receipt 1\\n`` and the canonical JSON of all other fields: keys
sorted, no spaces, non-ASCII characters escaped, numbers as Python's ``json`` writes them. The
canonical forms of pixels and masks are those of :mod:`api.canonical_pixels`.
"""

import base64
import binascii
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neural_photo_editor.api.image_encoding import ImageFormat
from neural_photo_editor.api.schema import (
    MAX_RESAMPLES,
    MAX_SEED,
    MAX_STEPS,
    REGION_NAMES,
    Blend,
    DetailSource,
    Sampler,
)

SCHEMA_VERSION = 1
MAX_EMBEDDED_BYTES = 2**20
"""Most bytes of mask, strokes and strength map together that a receipt carries."""
MAX_RECEIPT_BYTES = 2**21

_SIGNED_AS = b"neural-photo-editor receipt 1\n"
_MAX_SIDE = 16384

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Printable: it is shown on terminals.
ShortText = Annotated[str, Field(max_length=128, pattern=r"^[ -~]*$")]
Base64 = Annotated[str, Field(max_length=MAX_RECEIPT_BYTES, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
Corners = tuple[int, int, int, int]


class _Part(BaseModel):
    """Every field is required and none beside them allowed, so nothing in a receipt is unsigned."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ImageRecord(_Part):
    """An image file.

    Attributes:
        file_sha256, size_bytes: of the file.
        pixels_sha256: of its canonical pixels.
        outside_sha256: of its canonical pixels outside the mask.
    """

    file_sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)]
    pixels_sha256: Sha256
    outside_sha256: Sha256


class MaskRecord(_Part):
    """Which pixels were allowed to change.

    Attributes:
        sha256: of the mask's canonical form.
        pixels: how many they are.
        source: the field of the request that said so.
        png: the mask as a PNG of one bit a pixel in base64, or None when it is too large.
    """

    sha256: Sha256
    pixels: Annotated[int, Field(ge=1)]
    source: Literal["mask", "regions", "strokes"]
    png: Base64 | None


class FileRecord(_Part):
    """A further file of the request; ``content`` is base64, or None when it is too large."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=1)]
    content: Base64 | None


class EditRecord(_Part):
    """How the edit was made, everything chosen: see :class:`api.schema.EditMetadata`.

    Attributes:
        start: which of strength and timestep the edit was given, or else chosen, by.
        strength: not rounded.
        color, regions: as the request gave them.
    """

    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    sampler: Sampler
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]
    resamples: Annotated[int, Field(ge=1, le=MAX_RESAMPLES)]
    start: Literal["strength", "timestep"]
    strength: Annotated[float, Field(ge=0, le=1)]
    timestep: Annotated[int, Field(ge=1)]
    detail: DetailSource
    blend: Blend
    format: ImageFormat
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None
    regions: Annotated[tuple[ShortText, ...], Field(max_length=len(REGION_NAMES))]
    crop: Corners
    face: Corners | None


class EnvironmentRecord(_Part):
    """Where the edit was made: on another machine the same edit may come out a little different.

    Attributes:
        program, torch: their versions.
        device: "cpu" or the name of a GPU.
        processor: the CPU's architecture and the instructions that kernels are chosen by.
        precision: number format the networks were asked to compute in; "auto" follows the device.
        threads: of torch on the CPU.
    """

    program: ShortText
    torch: ShortText
    device: ShortText
    processor: ShortText
    precision: Literal["auto", "float32", "bfloat16"]
    threads: Annotated[int, Field(ge=1)]


class Receipt(_Part):
    """The receipt of one image.

    Attributes:
        time: when it was signed, by the server's clock, UTC, such as 2026-01-31T12:00:00Z.
        width, height: of the photo and the result, in pixels.
        exact: whether every pixel outside the mask is the photo's.
        strokes, strength_map: files of the request, None where it had none.
        replayable: whether the receipt, the photo and the bundle are enough to make the edit again.
        key_id, public_key: of the key that signed; the latter, and the signature, in base64.
    """

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", max_length=20)]
    bundle_digest: ShortText
    width: Annotated[int, Field(ge=1, le=_MAX_SIDE)]
    height: Annotated[int, Field(ge=1, le=_MAX_SIDE)]
    photo: ImageRecord
    result: ImageRecord
    exact: bool
    mask: MaskRecord
    strokes: FileRecord | None
    strength_map: FileRecord | None
    edit: EditRecord
    replayable: bool
    environment: EnvironmentRecord
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
    signature: Annotated[str, Field(pattern=r"^([A-Za-z0-9+/]{86}==)?$")]

    @model_validator(mode="after")
    def _check_exact(self) -> Self:
        if self.exact != (self.photo.outside_sha256 == self.result.outside_sha256):
            raise ValueError("exact disagrees with the digests of the pixels outside the mask")
        return self

    def signed_bytes(self) -> bytes:
        """Return what the signature is over."""
        content = self.model_dump(mode="json", exclude={"signature"})
        return _SIGNED_AS + canonical_json(content)

    def to_document(self) -> dict[str, Any]:
        """Return the receipt as a JSON object."""
        return self.model_dump(mode="json")


def canonical_json(value: object) -> bytes:
    """Serialize so that equal values give equal bytes, by the rules of this module."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_receipt(data: bytes) -> Receipt:
    """Read a receipt's JSON; its signature is another matter, see :mod:`api.verification`.

    Raises:
        ValueError: more than MAX_RECEIPT_BYTES, no JSON, nested too deeply, a key twice, an unknown
            or missing field, a value out of range; the message names it.
    """
    if len(data) > MAX_RECEIPT_BYTES:
        raise ValueError(f"the receipt has {len(data):,} bytes, more than {MAX_RECEIPT_BYTES:,}")
    try:
        # pydantic takes the last of two equal keys, another reader may take the first.
        json.loads(data, object_pairs_hook=_distinct_keys)
        return Receipt.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"]) or "the document"
        raise ValueError(
            f"this is no receipt of version {SCHEMA_VERSION}: {where}: {first['msg']}"
        ) from None
    except RecursionError:
        raise ValueError("this is no receipt: it is nested too deeply") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("this is no receipt: it is not valid JSON in UTF-8") from None


def decode_content(text: str) -> bytes:
    """Return the bytes of a receipt's base64; raises ValueError when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("a file in the receipt is not valid base64") from None


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("this is no receipt: a field is there twice")
    return names
