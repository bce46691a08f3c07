"""Open untrusted JPEG, PNG and WebP files: limits first, strict decoding, one kind of error."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_segments import has_too_many_segments

_FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_TEXT_BYTES = 1 << 20  # of a PNG's text, unpacked; a few KB is usual
_MAX_JPEG_SCANS = 100  # a progressive file has about 10; each costs a pass over the whole image
_SAVE_AGAIN = "open it in an image editor and save it again as PNG or JPEG"

# The settings that make Pillow strict are global to the process.
_PILLOW_LOCK = threading.Lock()


@dataclass(frozen=True)
class ImageLimits:
    """What an uploaded image may measure; all limits are inclusive.

    Attributes:
        max_bytes: size of the file.
        max_pixels: width x height.
        min_side, max_side: width and height in pixels.
    """

    max_bytes: int = 31 * 2**20  # a whole request may have 32 MiB
    max_pixels: int = 36_000_000  # 6000 x 6000; a 24-megapixel camera's 6000 x 4000 fits
    min_side: int = 16
    max_side: int = 16384


DEFAULT_LIMITS = ImageLimits()


@contextmanager
def open_image(
    data: bytes, *, field: str, limits: ImageLimits = DEFAULT_LIMITS
) -> Iterator[Image.Image]:
    """Check and load a JPEG, PNG or WebP file for a ``with`` block that reads its pixels.

    Pillow's strict settings hold inside the block, one block at a time in a process.

    Raises:
        RequestError: 413 too large, 415 another file type, 422 damaged, animated or too small;
            whatever else the block raises becomes a 422.
    """
    with _header_checked(data, field=field, limits=limits) as image:
        image.load()
        yield image


def check_image_header(
    data: bytes, *, field: str, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[int, int]:
    """Check a file's size, type and header, decode no pixel, and return its width and height.

    Raises:
        RequestError: as :func:`open_image`, for what can be told without decoding.
    """
    with _header_checked(data, field=field, limits=limits) as image:
        return image.size


@contextmanager
def _header_checked(data: bytes, *, field: str, limits: ImageLimits) -> Iterator[Image.Image]:
    _check_bytes(data, field=field, limits=limits)
    # Decoders raise far more than OSError on damaged files (struct.error, SyntaxError, KeyError,
    # MemoryError...), and a request must never take the process down.
    try:
        with _strict_pillow(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_header(image, field=field, limits=limits)
            yield image
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(field, limits) from None
    except Exception as error:
        raise RequestError(
            422,
            f"the image cannot be decoded ({_describe(error)})",
            field=field,
            remedy=_SAVE_AGAIN,
        ) from error


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings into errors, except for EXIF, and tighten its limit on PNG text."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
        # Of the files read here only EXIF is in TIFF's form; what it cannot say does no harm.
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
        text_memory = PngImagePlugin.MAX_TEXT_MEMORY
        PngImagePlugin.MAX_TEXT_MEMORY = _MAX_TEXT_BYTES
        try:
            yield
        finally:
            PngImagePlugin.MAX_TEXT_MEMORY = text_memory


def _check_bytes(data: bytes, *, field: str, limits: ImageLimits) -> None:
    if len(data) > limits.max_bytes:
        raise RequestError(
            413,
            f"the file has {len(data):,} bytes, more than {limits.max_bytes:,}",
            field=field,
            remedy="send a smaller or more strongly compressed image",
        )
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    is_png = data.startswith(b"\x89PNG\r\n\x1a\n")
    is_webp = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    if not (is_jpeg or is_png or is_webp):
        raise RequestError(
            415,
            "the file is not a JPEG, PNG or WebP image",
            field=field,
            remedy="convert it to one of the three; the content counts, not the name",
        )
    # Inside compressed data every 0xff is followed by 0x00 or a restart marker.
    if is_jpeg and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise RequestError(
            422,
            f"the JPEG has more than {_MAX_JPEG_SCANS} scans",
            field=field,
            remedy=_SAVE_AGAIN,
        )
    if has_too_many_segments(data):
        raise RequestError(
            422, "the file consists of too many segments", field=field, remedy=_SAVE_AGAIN
        )


def _check_header(image: Image.Image, *, field: str, limits: ImageLimits) -> None:
    width, height = image.size
    if min(width, height) < limits.min_side:
        raise RequestError(
            422,
            f"the image measures {width} x {height} pixels",
            field=field,
            remedy=f"send one of at least {limits.min_side} x {limits.min_side} pixels",
        )
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise _too_many_pixels(field, limits, measured=f"{width} x {height}")
    # A phone's JPEG may carry further pictures (MPO); the first is the photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise RequestError(
            422, "the image is animated", field=field, remedy="send one frame as a still image"
        )


def _too_many_pixels(field: str, limits: ImageLimits, measured: str = "too many") -> RequestError:
    return RequestError(
        413,
        f"the image measures {measured} pixels",
        field=field,
        remedy=f"scale it down to at most {limits.max_pixels:,} pixels in all "
        f"and {limits.max_side:,} on a side",
    )


def _describe(error: Exception) -> str:
    """Say what a decoder objected to, the same words for the same file."""
    if isinstance(error, UnidentifiedImageError):
        return "its first bytes are damaged"
    text = " ".join(str(error).split())
    return type(error).__name__ if not text or " at 0x" in text else text[:200]
