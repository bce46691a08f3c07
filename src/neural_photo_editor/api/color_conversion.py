"""Decoded Pillow images to 8-bit arrays, upright, with or without conversion to sRGB.

A Pillow image has four bytes to a pixel whatever it shows, so it is taken over in strips: beside
it there is never more than the finished array.
"""

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

UInt8Array = NDArray[np.uint8]

_STRIP_PIXELS = 2**18  # 1 MiB in Pillow: stays within the processor's cache

# Color space in an ICC header -> the Pillow mode whose pixels it describes.
_PROFILE_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}

# EXIF orientation -> what makes the pixels upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)  # stored rows are upright columns
_FROM_THE_END = (3, 4, 6, 7)  # the first stored row is the last upright row or column

# What Pillow raises at damaged EXIF; its warnings are silenced where files are opened.
_DAMAGED_EXIF = (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error)

Place = tuple[slice, slice]
ColorConversion = Callable[[Image.Image], Image.Image]


def upright_pixels(image: Image.Image, *, to_srgb: bool) -> tuple[UInt8Array, UInt8Array | None]:
    """Return (rgb, alpha), uint8 (H, W, 3) and (H, W) or None, in upright orientation.

    The rules by which other kinds of pixels become 8-bit RGB stand in :mod:`api.codec`.

    Args:
        image: a loaded JPEG, PNG or WebP.
        to_srgb: convert the colors by the file's ICC profile.
    """
    convert = _srgb_conversion(image) if to_srgb else _to_rgb
    size = upright_size(image)
    rgb, alpha = np.empty((*size, 3), np.uint8), None
    for place, color, strip_alpha in _upright_strips(image):
        rgb[place] = np.asarray(convert(color))
        if strip_alpha is not None:
            alpha = np.empty(size, np.uint8) if alpha is None else alpha
            alpha[place] = np.asarray(strip_alpha)
    return rgb, alpha


def upright_rgba(image: Image.Image) -> UInt8Array | None:
    """Return uint8 (H, W, 4) by the rules of :func:`upright_pixels`; None without transparency."""
    rgba = None
    for place, color, alpha in _upright_strips(image):
        if alpha is None:
            return None
        rgba = np.empty((*upright_size(image), 4), np.uint8) if rgba is None else rgba
        strip = _to_rgb(color).convert("RGBA")
        strip.putalpha(alpha)
        rgba[place] = np.asarray(strip)
    return rgba


def upright_bright_pixels(image: Image.Image, *, above: int) -> NDArray[np.bool_]:
    """Return where luma (ITU-R 601) and, if there is alpha, alpha exceed a level: bool (H, W)."""
    bright = np.empty(upright_size(image), np.bool_)
    for place, color, alpha in _upright_strips(image):
        gray = color if color.mode == "L" else _to_rgb(color).convert("L")
        bright[place] = np.asarray(gray) > above
        if alpha is not None:
            bright[place] &= np.asarray(alpha) > above
    return bright


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) once the EXIF orientation is applied."""
    width, height = image.size
    return (width, height) if _orientation(image) in _LYING else (height, width)


def profile_mode(profile: object) -> str | None:
    """Read from an ICC profile's header which pixels it describes: "RGB", "L" or "CMYK".

    None where there is no profile, it describes something else or it is not an ICC profile. The
    color space stands at bytes 16..19, the signature at 36..39.
    """
    if not isinstance(profile, bytes) or profile[36:40] != b"acsp":
        return None
    return _PROFILE_MODES.get(profile[16:20])


def _upright_strips(
    image: Image.Image,
) -> Iterator[tuple[Place, Image.Image, Image.Image | None]]:
    """Yield where each strip belongs in the upright image, its colors and its alpha (mode L)."""
    orientation = _orientation(image)
    turn = _TURNS.get(orientation)
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        color, alpha = _split_alpha(image.crop((0, top, width, bottom)))
        if turn is not None:
            color, alpha = color.transpose(turn), alpha and alpha.transpose(turn)
        from_the_end = orientation in _FROM_THE_END
        along = slice(height - bottom, height - top) if from_the_end else slice(top, bottom)
        place = (slice(None), along) if orientation in _LYING else (along, slice(None))
        yield place, color, alpha


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 where there is none to be read or it is no such number.

    A damaged EXIF block says as little as none: the pixels are sound.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGED_EXIF:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors as an image of mode RGB, L or CMYK, and alpha of mode L, if any."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.uint16)
        clear = image.info.get("transparency")  # the one gray level that is transparent
        alpha = None if clear is None else np.where(values == clear, 0, 255).astype(np.uint8)
        gray = Image.fromarray((values >> 8).astype(np.uint8))
        return gray, None if alpha is None else Image.fromarray(alpha)
    if image.mode == "LA":
        return image.getchannel("L"), image.getchannel("A")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("RGB", "L", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _to_rgb(color: Image.Image) -> Image.Image:
    return color if color.mode == "RGB" else color.convert("RGB")


def _srgb_conversion(image: Image.Image) -> ColorConversion:
    """Return what converts this image's colors to sRGB by its profile; plainly without one.

    Relative colorimetric with black point compensation: what is in sRGB's range stays exact,
    black becomes black.
    """
    profile = image.info.get("icc_profile")
    mode = profile_mode(profile)
    if not isinstance(profile, bytes) or mode is None:
        return _to_rgb
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _to_rgb  # A damaged profile says nothing; the pixels themselves are sound.

    def convert(color: Image.Image) -> Image.Image:
        if color.mode != mode:
            return _to_rgb(color)
        converted = ImageCms.applyTransform(color, transform)
        assert converted is not None
        return converted

    return convert
