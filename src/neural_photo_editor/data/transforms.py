"""Crops, resizes and flips that treat a photo and its label map alike."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def center_square(image: Pixels) -> Pixels:
    """Cut the largest centered square out of uint8 (H, W) or (H, W, C)."""
    height, width = image.shape[:2]
    size = min(height, width)
    return crop(image, top=(height - size) // 2, left=(width - size) // 2, size=size)


def crop(image: Pixels, *, top: int, left: int, size: int) -> Pixels:
    """Cut a square of `size` pixels out of uint8 (H, W) or (H, W, C); a view, not a copy."""
    return image[top : top + size, left : left + size]


def copy_planes(photo: Pixels, planes: Pixels) -> None:
    """Copy the channels of uint8 (H, W, 3), or of RGBX (H, W, 4), to planes, uint8 (3, H, W).

    A CPU has no instructions for picking every third byte. From pixels of four bytes, taken as
    integers, it picks many at once: three times as fast at 256 x 256.
    """
    if photo.shape[2] == 3:
        planes[:] = photo.transpose(2, 0, 1)
        return
    pixels = photo.view("<u4")[..., 0]  # Red is the lowest byte.
    shifted = np.empty(pixels.shape, dtype=pixels.dtype)
    np.copyto(planes[0], pixels, casting="unsafe")
    for channel in (1, 2):
        np.right_shift(pixels, 8 * channel, out=shifted)
        np.copyto(planes[channel], shifted, casting="unsafe")


def resize_photo(photo: Pixels, *, size: int) -> Pixels:
    """Resize a square photo, uint8 (S, S, 3) or RGBX (S, S, 4), to `size` pixels.

    Bicubic, antialiased. RGBX stays so where nothing needs resizing and becomes RGB otherwise.
    """
    if photo.shape[:2] == (size, size):
        return photo
    return np.asarray(
        Image.fromarray(photo[..., :3]).resize((size, size), Image.Resampling.BICUBIC)
    )


def resize_labels(labels: Pixels, *, width: int, height: int) -> Pixels:
    """Resize a label map, uint8 (H, W), by nearest neighbor: no new ids appear."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def crop_to_square(
    photo: Pixels, labels: Pixels | None, *, size: int
) -> tuple[Pixels, Pixels | None]:
    """Center-crop photo and label map to a square and resize both to `size` pixels."""
    photo = resize_photo(center_square(photo), size=size)
    if labels is not None:
        labels = resize_labels(center_square(labels), width=size, height=size)
    return photo, labels


def describe_center_crop(size: int | None) -> str:
    """Say in words what :func:`crop_to_square` does with `size`; None: photos stay as they are."""
    if size is None:
        return "none: photos keep their size"
    return f"largest centered square, resized to {size} x {size} pixels (bicubic, antialiased)"
