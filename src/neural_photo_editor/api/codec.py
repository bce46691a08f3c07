"""Untrusted image files to arrays and back. Nothing but :class:`RequestError` comes out.

Limits are checked on the file's size and header, before any pixel is decoded. How a file becomes
8-bit RGB:

* the EXIF orientation is applied, then forgotten;
* 16 bits: the high byte; gray: repeated three times; palette: looked up;
* CMYK: converted without its profile; an ICC profile is kept only when it describes RGB;
* alpha (or a transparent color) comes back separately; colors under it are left as they are.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from neural_photo_editor.api.errors import RequestError

UInt8Array = NDArray[np.uint8]

_FORMATS = ("JPEG", "PNG", "WEBP")
_MAX_TEXT_BYTES = 1 << 20  # of a PNG's text, unpacked; a few KB is usual
_MAX_JPEG_SCANS = 100  # a progressive file has about 10; each costs a pass over the whole image
_SAVE_AGAIN = "open it in an image editor and save it again as PNG or JPEG"
_PNG_COMPRESS_LEVEL = 3  # a third of level 6's time for about 5 % more bytes

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

    max_bytes: int = 20 * 2**20
    max_pixels: int = 4096 * 4096
    min_side: int = 16
    max_side: int = 16384


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo in upright orientation.

    Attributes:
        rgb: uint8 (H, W, 3).
        alpha: uint8 (H, W), or None when the file has no transparency.
        icc_profile: the RGB color profile the file carries, or None.
    """

    rgb: UInt8Array
    alpha: UInt8Array | None
    icc_profile: bytes | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


def decode_photo(
    data: bytes, *, field: str = "photo", limits: ImageLimits = DEFAULT_LIMITS
) -> DecodedPhoto:
    """Decode a JPEG, PNG or WebP file.

    Raises:
        RequestError: 413 too large, 415 another file type, 422 damaged, animated or too small.
    """
    _check_bytes(data, field=field, limits=limits)
    # Decoders raise far more than OSError on damaged files (struct.error, SyntaxError, KeyError,
    # MemoryError...), and a request must never take the process down.
    try:
        with _strict_pillow(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_header(image, field=field, limits=limits)
            image.load()
            return _to_photo(image)
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(field, limits) from None
    except Exception as error:
        raise RequestError(
            422,
            f"the image cannot be decoded ({type(error).__name__})",
            field=field,
            remedy=_SAVE_AGAIN,
        ) from error


def decode_mask(
    data: bytes,
    *,
    field: str = "mask",
    size: tuple[int, int],
    limits: ImageLimits = DEFAULT_LIMITS,
) -> NDArray[np.bool_]:
    """Decode a mask: True (edit) where luminance > 127 and, if there is alpha, alpha > 127.

    Args:
        size: (height, width) of the photo it belongs to.

    Raises:
        RequestError: as :func:`decode_photo`, and 422 for another size or a mask without a pixel.
    """
    photo = decode_photo(data, field=field, limits=limits)
    _check_same_size(photo, size, field=field)
    # ITU-R 601 luma, in the integer form Pillow uses for convert("L").
    red, green, blue = (photo.rgb[..., channel].astype(np.uint32) for channel in range(3))
    mask = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16 > 127
    if photo.alpha is not None:
        mask &= photo.alpha > 127
    if not mask.any():
        raise RequestError(
            422,
            "the mask is empty: no pixel is brighter than 127",
            field=field,
            remedy="paint the pixels to edit white (255) and the others black (0)",
        )
    return mask


def decode_strokes(
    data: bytes,
    *,
    field: str = "strokes",
    size: tuple[int, int],
    limits: ImageLimits = DEFAULT_LIMITS,
) -> UInt8Array:
    """Decode painted strokes into uint8 (H, W, 4): R, G, B, alpha; painted where alpha > 0.

    Args:
        size: (height, width) of the photo they belong to.

    Raises:
        RequestError: as :func:`decode_photo`, and 422 for another size, a file without
            transparency or one in which nothing is painted.
    """
    photo = decode_photo(data, field=field, limits=limits)
    _check_same_size(photo, size, field=field)
    if photo.alpha is None:
        raise RequestError(
            422,
            "the strokes have no transparency: every pixel would be painted",
            field=field,
            remedy="send an RGBA PNG that is transparent where nothing is painted",
        )
    if not photo.alpha.any():
        raise RequestError(
            422,
            "the strokes are empty: every pixel is transparent",
            field=field,
            remedy="paint at least one pixel with alpha above 0",
        )
    return np.dstack((photo.rgb, photo.alpha))


def encode_png(
    pixels: UInt8Array, *, alpha: UInt8Array | None = None, icc_profile: bytes | None = None
) -> bytes:
    """Encode uint8 (H, W, 3) RGB or (H, W) gray pixels as PNG; equal input gives equal bytes.

    Args:
        alpha: uint8 (H, W), only with RGB.
        icc_profile: color profile to store with the image.
    """
    if alpha is not None:
        pixels = np.dstack((pixels, alpha))
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        buffer, "PNG", compress_level=_PNG_COMPRESS_LEVEL, icc_profile=icc_profile
    )
    return buffer.getvalue()


@contextmanager
def _strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings into errors and tighten its limit on PNG text chunks."""
    with _PILLOW_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
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


def _check_same_size(photo: DecodedPhoto, size: tuple[int, int], *, field: str) -> None:
    if photo.size != size:
        raise RequestError(
            422,
            f"the {field} image measures {photo.size[1]} x {photo.size[0]} pixels, "
            f"the photo {size[1]} x {size[0]} (after its EXIF rotation)",
            field=field,
            remedy=f"send a {field} image of exactly {size[1]} x {size[0]} pixels",
        )


def _to_photo(image: Image.Image) -> DecodedPhoto:
    orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        high_byte = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        rgb, alpha = np.dstack((high_byte,) * 3), None
    elif image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        rgb, alpha = rgba[..., :3], rgba[..., 3]
    else:
        rgb, alpha = np.asarray(image.convert("RGB")), None
    return DecodedPhoto(
        rgb=_upright(rgb, orientation),
        alpha=None if alpha is None else _upright(alpha, orientation),
        icc_profile=profile if _is_rgb_profile(profile) else None,
    )


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undo an EXIF orientation (1..8; others count as 1) and return contiguous pixels."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _is_rgb_profile(profile: object) -> bool:
    """Check an ICC profile's header: color space at bytes 16..19, signature at 36..39."""
    return isinstance(profile, bytes) and profile[16:20] == b"RGB " and profile[36:40] == b"acsp"
