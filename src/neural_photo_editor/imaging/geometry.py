"""The square a photo is worked on: cut it out at model resolution, put the result back."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NEARLY_SQUARE = 1.1
"""Up to this ratio of long to short side the whole photo is the square."""

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels; bottom and right are exclusive."""


@dataclass(frozen=True)
class SquareCrop:
    """A square of a photo; where it is larger than the photo, reflections fill it.

    Attributes:
        top, left, height, width: the rectangle of the photo the square shows, in pixels.
        side: side of the square in photo pixels; the rectangle is centered in it.
    """

    top: int
    left: int
    height: int
    width: int
    side: int

    @property
    def box(self) -> Box:
        return self.top, self.left, self.top + self.height, self.left + self.width

    def visible(self, resolution: int) -> Box:
        """Return where the rectangle lies in the square when the square has ``resolution`` pixels.

        At least one pixel on each axis.
        """
        height, width = (
            max(1, round(length * resolution / self.side)) for length in (self.height, self.width)
        )
        top, left = (resolution - height) // 2, (resolution - width) // 2
        return top, left, top + height, left + width


def choose_square(height: int, width: int, *, must_contain: Box | None = None) -> SquareCrop:
    """Choose the square of a photo that looks most like a training portrait.

    The denoiser knows whole aligned portraits, so the square is as large as is sensible, not a
    tight box around the mask. The rule, in order:

    1. long side at most 1.1 times the short side: the whole photo, in a square of the long side;
    2. the box to contain fits a square of the short side: that square, as near to the photo's
       center as containing the box allows, with a margin of 1/16 of the side where there is room;
    3. otherwise: the whole photo, in a square of the long side.

    Args:
        height, width: size of the photo, in pixels.
        must_contain: the mask's bounding box; absent means no constraint.

    Raises:
        ValueError: the box is empty or reaches outside the photo.
    """
    short, long = min(height, width), max(height, width)
    top, left, bottom, right = must_contain or (height // 2, width // 2) * 2
    if must_contain and not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"box {must_contain} is empty or outside a {height}x{width} photo")
    fits = bottom - top <= short and right - left <= short
    if long <= NEARLY_SQUARE * short or not fits:
        return SquareCrop(0, 0, height, width, side=long)
    return SquareCrop(
        _start(height, short, top, bottom), _start(width, short, left, right), short, short, short
    )


def _start(length: int, side: int, low: int, high: int) -> int:
    """Return the start of a window of ``side`` in 0..length that contains low..high."""
    margin = min(side // 16, (side - (high - low)) // 2)
    start = min((length - side) // 2, low - margin)
    start = max(start, high + margin - side)
    return min(max(start, 0), length - side)


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with antialiased bicubic interpolation, clipped to [-1, 1]; same size: unchanged.

    image: float, (N, C, H, W), in [-1, 1]; size: (height, width) in pixels.
    """
    if tuple(image.shape[-2:]) == size:
        return image
    resized = F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(-1.0, 1.0)


def cut_out(image: Tensor, crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return the square at model resolution; :func:`put_back` is the inverse.

    Args:
        image: the photo, float, (1, C, H, W), in [-1, 1].
        crop: the square.
        resolution: side of the result, in pixels.

    Returns:
        float, (1, C, resolution, resolution), in [-1, 1].
    """
    top, left, bottom, right = crop.box
    box = crop.visible(resolution)
    inner = resize(image[..., top:bottom, left:right], (box[2] - box[0], box[3] - box[1]))
    return fill_square(inner, box, resolution=resolution)


def put_back(square: Tensor, crop: SquareCrop) -> Tensor:
    """Return the crop's rectangle at the photo's own size; the inverse of :func:`cut_out`.

    Args:
        square: float, (1, C, S, S), in [-1, 1]; S may be any size, e.g. an upscaled resolution.
        crop: the square.

    Returns:
        float, (1, C, crop.height, crop.width), in [-1, 1].
    """
    top, left, bottom, right = crop.visible(square.shape[-1])
    return resize(square[..., top:bottom, left:right], (crop.height, crop.width))


def fill_square(inner: Tensor, box: Box, *, resolution: int) -> Tensor:
    """Place a (..., h, w) tensor in a square and fill the rest with its reflections.

    Reflects as often as needed, so that any elongation works; a single row or column is repeated.
    """
    top, left, bottom, right = box
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(end - start), (start, resolution - end), mode="reflect"))
        for start, end in ((top, bottom), (left, right))
    )
    return inner[..., rows.to(inner.device), :][..., columns.to(inner.device)]
