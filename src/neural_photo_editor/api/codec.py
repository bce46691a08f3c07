"""Untrusted image files to arrays and back. Nothing but :class:`RequestError` comes out.

One decoder for the importers, the server and the client. Only JPEG, PNG and WebP are read,
whatever a file is called. Limits are checked on the file's size and header, before any pixel is
decoded; a warning of the image library counts as an error. How a file becomes 8-bit RGB:

* the EXIF orientation is applied, then all EXIF is forgotten, for it may tell where a photo was
  taken; what is unreadable in a damaged EXIF block counts as absent. Of a file with several still
  pictures (a phone's MPO) the first is taken, an animation is refused;
* gray is repeated three times, black and white are 0 and 255, a palette is looked up;
* of 16 bits a channel the high byte is kept;
* alpha (or a transparent color) comes back separately; colors under it are left as they are;
* CMYK is converted without a profile, unless `to_srgb` finds one.

Color profiles. By default pixels keep their colors and an ICC profile of RGB comes back with
them, so that an edited photo can be saved in its own color space; another profile is dropped.
With `to_srgb` the pixels are converted by the file's profile (RGB, gray or CMYK; relative
colorimetric, black point compensated) and no profile comes back. Without a profile, or with one
that is damaged or describes another kind of pixels, they are taken for sRGB as they are: so do
browsers, and a photo is worth more than its profile. Other hints of color (PNG's gAMA and cHRM,
EXIF's ColorSpace) are ignored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.color_conversion import (
    profile_mode,
    upright_bright_pixels,
    upright_pixels,
    upright_rgba,
    upright_size,
)
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.image_encoding import (
    EXACT_FORMATS,
    ImageFormat,
    check_format,
    encode_image,
    encode_png,
)
from neural_photo_editor.api.image_opening import DEFAULT_LIMITS, ImageLimits, open_image

__all__ = [
    "DEFAULT_LIMITS",
    "EXACT_FORMATS",
    "DecodedPhoto",
    "ImageFormat",
    "ImageLimits",
    "check_format",
    "decode_mask",
    "decode_photo",
    "decode_strokes",
    "encode_image",
    "encode_png",
    "luma",
]

UInt8Array = NDArray[np.uint8]

# Pillow's names of what is read; a phone's MPO is a JPEG with further pictures behind it.
_FORMATS: dict[str | None, ImageFormat] = {
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
}


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo in upright orientation.

    Attributes:
        rgb: uint8 (H, W, 3).
        alpha: uint8 (H, W), or None when the file has no transparency.
        icc_profile: the RGB color profile the file carries, or None.
        format: what kind of file it was.
    """

    rgb: UInt8Array
    alpha: UInt8Array | None
    icc_profile: bytes | None
    format: ImageFormat = "png"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]


def decode_photo(
    data: bytes,
    *,
    field: str = "photo",
    limits: ImageLimits = DEFAULT_LIMITS,
    to_srgb: bool = False,
) -> DecodedPhoto:
    """Decode a JPEG, PNG or WebP file by the rules of this module.

    Args:
        field: what to call the file in an error.
        to_srgb: convert the colors to sRGB by the file's ICC profile, see the module's rules.

    Raises:
        RequestError: 413 too large, 415 another file type, 422 damaged, animated or too small.
    """
    with open_image(data, field=field, limits=limits) as image:
        rgb, alpha = upright_pixels(image, to_srgb=to_srgb)
        profile = image.info.get("icc_profile")
        keep_profile = not to_srgb and profile_mode(profile) == "RGB"
        return DecodedPhoto(
            rgb, alpha, profile if keep_profile else None, format=_FORMATS[image.format]
        )


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
    with open_image(data, field=field, limits=limits) as image:
        _check_same_size(image, size, field=field)
        mask = upright_bright_pixels(image, above=127)
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
    with open_image(data, field=field, limits=limits) as image:
        _check_same_size(image, size, field=field)
        rgba = upright_rgba(image)
    if rgba is None:
        raise RequestError(
            422,
            "the strokes have no transparency: every pixel would be painted",
            field=field,
            remedy="send an RGBA PNG that is transparent where nothing is painted",
        )
    if not rgba[..., 3].any():
        raise RequestError(
            422,
            "the strokes are empty: every pixel is transparent",
            field=field,
            remedy="paint at least one pixel with alpha above 0",
        )
    return rgba


def luma(rgb: UInt8Array) -> UInt8Array:
    """Return ITU-R 601 luma, uint8 (H, W), of (H, W, 3), in the form of Pillow's convert("L")."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    weighted = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return weighted.astype(np.uint8)


def _check_same_size(image: Image.Image, size: tuple[int, int], *, field: str) -> None:
    height, width = upright_size(image)
    if (height, width) != size:
        raise RequestError(
            422,
            f"the {field} image measures {width} x {height} pixels, "
            f"the photo {size[1]} x {size[0]} (after its EXIF rotation)",
            field=field,
            remedy=f"send a {field} image of exactly {size[1]} x {size[0]} pixels",
        )
