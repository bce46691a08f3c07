"""Decoded Pillow images to 8-bit RGB arrays, upright, with or without conversion to sRGB."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

UInt8Array = NDArray[np.uint8]

# Color space in an ICC header -> the Pillow mode whose pixels it describes.
_PROFILE_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}


def upright_pixels(image: Image.Image, *, to_srgb: bool) -> tuple[UInt8Array, UInt8Array | None]:
    """Return (rgb, alpha), uint8 (H, W, 3) and (H, W) or None, in upright orientation.

    The rules by which other kinds of pixels become 8-bit RGB stand in :mod:`api.codec`.

    Args:
        image: a loaded JPEG, PNG or WebP.
        to_srgb: convert the colors by the file's ICC profile.
    """
    orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    color, alpha = _split_alpha(image)
    if to_srgb:
        color = _to_srgb(color, image.info.get("icc_profile"))
    rgb = np.asarray(color if color.mode == "RGB" else color.convert("RGB"))
    return _upright(rgb, orientation), None if alpha is None else _upright(alpha, orientation)


def profile_mode(profile: object) -> str | None:
    """Read from an ICC profile's header which pixels it describes: "RGB", "L" or "CMYK".

    None where there is no profile, it describes something else or it is not an ICC profile. The
    color space stands at bytes 16..19, the signature at 36..39.
    """
    if not isinstance(profile, bytes) or profile[36:40] != b"acsp":
        return None
    return _PROFILE_MODES.get(profile[16:20])


def _split_alpha(image: Image.Image) -> tuple[Image.Image, UInt8Array | None]:
    """Return the colors as an image of mode RGB, L or CMYK, and alpha, uint8 (H, W), if any."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.uint16)
        clear = image.info.get("transparency")  # the one gray level that is transparent
        alpha = None if clear is None else np.where(values == clear, 0, 255).astype(np.uint8)
        return Image.fromarray((values >> 8).astype(np.uint8)), alpha
    if image.mode == "LA":
        return image.getchannel("L"), np.asarray(image.getchannel("A"))
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        return rgba.convert("RGB"), np.asarray(rgba.getchannel("A"))
    if image.mode in ("RGB", "L", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _to_srgb(color: Image.Image, profile: object) -> Image.Image:
    """Convert by the profile to sRGB, perhaps in place; without one that fits, return `color`.

    Relative colorimetric with black point compensation: what is in sRGB's range stays exact,
    black becomes black.
    """
    if not isinstance(profile, bytes) or profile_mode(profile) != color.mode:
        return color
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            color.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        # In place where that is possible: a copy of the largest photo takes 64 MiB.
        converted = ImageCms.applyTransform(color, transform, inPlace=color.mode == "RGB")
        return color if converted is None else converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return color  # A damaged profile says nothing; the pixels themselves are sound.


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undo an EXIF orientation (1..8; others count as 1) and return contiguous pixels."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
