"""Arrays to image files: PNG and lossless WebP exactly, JPEG closely.

No file holds more than pixels, alpha and a color profile: no EXIF, which may tell where a photo
was taken, no text, no time. Pixels are stored upright, so no orientation is missing either.
"""

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.errors import RequestError

ImageFormat = Literal["png", "jpeg", "webp"]

EXACT_FORMATS: tuple[ImageFormat, ...] = ("png", "webp")
"""Formats that keep every byte of every pixel, also of the colors under full transparency."""

UInt8Array = NDArray[np.uint8]

_MAX_SIDE: dict[ImageFormat, int] = {"png": 2**31 - 1, "jpeg": 65535, "webp": 16383}
_JPEG_QUALITY = 95
_DEFLATE_LEVEL = 1  # of 0..3; the others gain less than 2 %
_FILTER_BAND = 2**18  # bytes filtered at once: stays within the processor's cache
_UP = 2  # PNG's filter type: each byte minus the one above it


def encode_image(
    pixels: UInt8Array,
    *,
    format: ImageFormat,
    alpha: UInt8Array | None = None,
    icc_profile: bytes | None = None,
) -> bytes:
    """Encode a photo; equal input gives equal bytes on the same machine.

    Args:
        pixels: uint8, (H, W, 3).
        format: "png" and "webp" (lossless) give back these pixels exactly; "jpeg" is of quality
            95 with color at full resolution, and an alpha that is 255 everywhere is left out.
        alpha: uint8, (H, W).
        icc_profile: color profile to store with the image, in any of the formats.

    Raises:
        RequestError: the format cannot hold the photo, see :func:`check_format`.
    """
    check_format(format, size=pixels.shape[:2], alpha=alpha)
    if format == "png":
        return encode_png(pixels, alpha=alpha, icc_profile=icc_profile)
    buffer = io.BytesIO()
    if format == "webp":
        # Method 0 at effort 0: higher ones take twice the time for 1 % fewer bytes.
        options: dict[str, Any] = {"lossless": True, "exact": True, "method": 0, "quality": 0}
        image = Image.fromarray(_with_alpha(pixels, alpha))
    else:
        options = {"quality": _JPEG_QUALITY, "subsampling": "4:4:4"}
        image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(buffer, format, icc_profile=icc_profile, **options)
    return buffer.getvalue()


def check_format(format: ImageFormat, *, size: tuple[int, ...], alpha: UInt8Array | None) -> None:
    """Refuse a format that cannot hold a photo of (height, width) `size` with this alpha.

    Raises:
        RequestError: 422; a side is too long for the format, or JPEG is to hold transparency,
            which it cannot, and what to put under it is not ours to choose.
    """
    if max(size) > _MAX_SIDE[format]:
        raise RequestError(
            422,
            f"{format} holds at most {_MAX_SIDE[format]:,} pixels on a side",
            field="format",
            remedy="choose png",
        )
    if format == "jpeg" and alpha is not None and alpha.min() < 255:
        raise RequestError(
            422,
            "the photo has transparent pixels, which jpeg cannot hold",
            field="format",
            remedy="choose png or webp",
        )


def encode_png(
    pixels: UInt8Array, *, alpha: UInt8Array | None = None, icc_profile: bytes | None = None
) -> bytes:
    """Encode RGB or gray pixels as PNG; equal input gives equal bytes on the same machine.

    Args:
        pixels: uint8, (H, W, 3) or (H, W).
        alpha: uint8, (H, W), only with RGB.
        icc_profile: color profile to store with the image.
    """
    height, width = pixels.shape[:2]
    channels = (1 if pixels.ndim == 2 else 3) + (alpha is not None)
    color_type = {1: 0, 3: 2, 4: 6}[channels]  # PNG, table 11.1: gray, RGB, RGBA
    file = io.BytesIO()
    file.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0))
    if icc_profile is not None:
        _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile))
    deflate = isal_zlib.compressobj(_DEFLATE_LEVEL)
    above = np.zeros(width * channels, np.uint8)
    rows = max(1, _FILTER_BAND // (width * channels))
    for top in range(0, height, rows):
        band = _with_alpha(
            pixels[top : top + rows], None if alpha is None else alpha[top : top + rows]
        )
        flat = band.reshape(len(band), -1)
        _write_chunk(file, b"IDAT", deflate.compress(_filtered_up(flat, above)))
        above = flat[-1]
    _write_chunk(file, b"IDAT", deflate.flush())
    _write_chunk(file, b"IEND", b"")
    return file.getvalue()


def _with_alpha(pixels: UInt8Array, alpha: UInt8Array | None) -> UInt8Array:
    if alpha is None:
        return np.ascontiguousarray(pixels)
    rgba = np.empty((*alpha.shape, 4), np.uint8)
    # Single bytes: numpy copies groups of three several times as slowly.
    for channel in range(3):
        rgba[..., channel] = pixels[..., channel]
    rgba[..., 3] = alpha
    return rgba


def _filtered_up(rows: UInt8Array, above: UInt8Array) -> UInt8Array:
    """Filter type 2 of PNG for all rows: the type, then each byte minus the one above it."""
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    np.subtract(rows[0], above, out=filtered[0, 1:])
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _write_chunk(file: io.BytesIO, kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        file.write(struct.pack(">I", len(data)) + kind)
        file.write(data)
        file.write(struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind))))
