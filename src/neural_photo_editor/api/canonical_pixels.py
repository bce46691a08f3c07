"""Canonical forms of pixels and masks, and their SHA-256: what receipts say about pictures.

Files that hold the same picture differ in their bytes, so a receipt speaks of decoded pixels, too.
They are those of :func:`api.codec.decode_photo` without ``to_srgb``: upright, 8 bits a channel.

* Pixels: the ASCII line ``npe-pixels-1 WIDTH HEIGHT PROFILE\\n``, then R, G, B, A of every pixel, a
  byte each, rows from the top. PROFILE is the SHA-256 of the RGB color profile, or ``-``: under
  another profile the same numbers are other colors. A is 255 in a picture without transparency.
* Pixels outside a mask: the same, with the four bytes of every masked pixel set to 0.
* Mask: the ASCII line ``npe-mask-1 WIDTH HEIGHT\\n``, then a bit for every pixel, 1 = edited, rows
  from the top, the first pixel in the highest bit; each row is filled with 0 to a whole byte.
"""

import hashlib
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits

Mask = NDArray[np.bool_]

RECEIPT_LIMITS = ImageLimits(max_bytes=2**29, max_pixels=80_000_000)
"""What pictures of a receipt may measure: a result has more bytes than an upload may have."""

_BAND_ROWS = 512


def pixels_digest(photo: DecodedPhoto, *, outside: Mask | None = None) -> str:
    """Return the SHA-256 of a photo's canonical pixels, in hexadecimal.

    Args:
        outside: bool, (H, W); pixels where it is True do not count.

    Raises:
        ValueError: the mask has another size than the photo.
    """
    height, width = photo.size
    if outside is not None and outside.shape != (height, width):
        raise ValueError(f"the mask measures {outside.shape}, the photo {(height, width)}")
    profile = hashlib.sha256(photo.icc_profile).hexdigest() if photo.icc_profile else "-"
    digest = hashlib.sha256(f"npe-pixels-1 {width} {height} {profile}\n".encode())
    for top in range(0, height, _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        rgba = np.empty((*photo.rgb[band].shape[:2], 4), np.uint8)
        rgba[..., :3] = photo.rgb[band]
        rgba[..., 3] = 255 if photo.alpha is None else photo.alpha[band]
        if outside is not None:
            rgba[outside[band]] = 0
        digest.update(rgba.data)
    return digest.hexdigest()


def mask_digest(mask: Mask) -> str:
    """Return the SHA-256 of a mask's canonical form, in hexadecimal; mask: bool, (H, W)."""
    height, width = mask.shape
    digest = hashlib.sha256(f"npe-mask-1 {width} {height}\n".encode())
    digest.update(np.packbits(mask, axis=1).data)
    return digest.hexdigest()


def mask_png(mask: Mask) -> bytes:
    """Encode a mask, bool (H, W), as a PNG of one bit a pixel."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def difference_outside(before: DecodedPhoto, after: DecodedPhoto, mask: Mask) -> NDArray[np.uint8]:
    """Return by how much R, G, B or A of two photos of one size differ, 0 where the mask is True.

    Returns:
        The largest of the four, uint8, (H, W).
    """
    opaque = np.full(before.size, 255, np.uint8)
    pairs = [(before.rgb[..., channel], after.rgb[..., channel]) for channel in range(3)]
    alphas = [opaque if photo.alpha is None else photo.alpha for photo in (before, after)]
    largest = np.zeros(mask.shape, np.uint8)
    for one, other in [*pairs, (alphas[0], alphas[1])]:
        difference = np.maximum(one, other) - np.minimum(one, other)
        np.maximum(largest, difference, out=largest)
    largest[mask] = 0
    return largest
