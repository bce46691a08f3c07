"""The square a photo is worked on: cut it out at model resolution, put the result back.

The square is a grid of ``R x R`` pixels, each ``side / R`` photo pixels wide, and its corner is
the photo's pixel ``(top, left)``: pixel ``i`` of the square has its center at photo coordinate
``top + (i + 0.5) * side / R``. Both directions read at exactly these places, whatever R is, so
content comes back where it was, also where a square reaches beyond the photo.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.imaging.value_range import to_model_range

NEARLY_SQUARE = 1.1
"""Up to this ratio of long to short side the whole photo is the square."""

BLOCKS_PER_PIXEL = 8
"""A photo is averaged in whole blocks first, at least this many to a pixel of the square."""

_CHUNK = 32
"""Rows resampled at once: bounds memory, and keeps the work within the processor's cache."""

_REACH = 2
"""No kernel reaches further than this many widened pixels."""

_NO_SHARE = 1e-6
"""Overlaps below this are rounding errors of positions, not pixels that reach over."""

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in pixels; bottom and right are exclusive."""

Kernel = Callable[[Tensor, float], Tensor]
"""Weights of input pixels at these distances from an output pixel ``step`` input pixels wide."""


@dataclass(frozen=True)
class SquareCrop:
    """A square of a photo; where it reaches beyond the photo, reflections fill it.

    Attributes:
        top, left: the square's corner in photo pixels; negative above or left of the photo.
        side: side of the square, in photo pixels.
        photo_height, photo_width: size of the photo.

    Raises:
        ValueError: the square shows nothing of the photo.
    """

    top: int
    left: int
    side: int
    photo_height: int
    photo_width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"{self} lies beside the photo")

    @property
    def box(self) -> Box:
        """The rectangle of the photo the square shows, in photo pixels."""
        return (
            max(self.top, 0),
            max(self.left, 0),
            min(self.top + self.side, self.photo_height),
            min(self.left + self.side, self.photo_width),
        )

    @property
    def height(self) -> int:
        """Height of :attr:`box`."""
        top, _, bottom, _ = self.box
        return bottom - top

    @property
    def width(self) -> int:
        """Width of :attr:`box`."""
        _, left, _, right = self.box
        return right - left

    def visible(self, resolution: int) -> Box:
        """Return the whole pixels of the square nearest to :attr:`box`, at least one on each axis.

        Its edges are up to half a pixel off; :func:`cut_out` and :func:`put_back` do not round.
        """
        top, left, bottom, right = self.box
        rows, columns = (
            _whole_pixels((low - start) / self.side, (high - start) / self.side, resolution)
            for start, low, high in ((self.top, top, bottom), (self.left, left, right))
        )
        return rows[0], columns[0], rows[1], columns[1]


def _whole_pixels(low: float, high: float, resolution: int) -> tuple[int, int]:
    start = min(round(low * resolution), resolution - 1)
    return start, max(start + 1, round(high * resolution))


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
    if must_contain:
        check_box(must_contain, height, width)
    fits = bottom - top <= short and right - left <= short
    if long <= NEARLY_SQUARE * short or not fits:
        return SquareCrop(-((long - height) // 2), -((long - width) // 2), long, height, width)
    return SquareCrop(
        _start(height, short, top, bottom), _start(width, short, left, right), short, height, width
    )


def check_box(box: Box, height: int, width: int) -> None:
    """Raise ValueError if a box is empty or reaches outside a photo."""
    top, left, bottom, right = box
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"box {box} is empty or outside a {height}x{width} photo")


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


def cut_out(photo: NDArray[np.uint8] | Tensor, crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return the square at model resolution, antialiased; :func:`put_back` is the inverse.

    A large uint8 photo is averaged in whole blocks first and never turned into floats as a whole.
    The result differs from that of its tensor by less than 0.01 in photographs, and reflections
    lie up to 1/16 of a pixel elsewhere.

    Args:
        photo: the photo, uint8 (H, W, 3), or float (1, C, H, W) in [-1, 1].
        crop: the square.
        resolution: side of the result, in pixels.

    Returns:
        float, (1, C, resolution, resolution), in [-1, 1].
    """
    top, left, bottom, right = crop.box
    block = max(1, crop.side // (resolution * BLOCKS_PER_PIXEL))
    if isinstance(photo, Tensor):
        block, inner = 1, photo[..., top:bottom, left:right]
    else:
        means = torch.from_numpy(_block_means(photo[top:bottom, left:right], block))
        inner = means.permute(2, 0, 1).unsqueeze(0)
    square = _read_square(inner, crop, resolution=resolution, block=block, kernel=_cubic)
    return square.clamp_(-1.0, 1.0)


def cut_out_share(mask: NDArray[np.bool_], crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return which share of each pixel of the square is masked, reflected as the photo is.

    Args:
        mask: bool, (H, W), of the whole photo.
        crop, resolution: as in :func:`cut_out`.

    Returns:
        float32, (1, 1, resolution, resolution), in [0, 1]; exactly 0 where no masked pixel
        reaches.
    """
    top, left, bottom, right = crop.box
    inner = torch.from_numpy(mask[top:bottom, left:right])[None, None]
    return _read_square(inner, crop, resolution=resolution, block=1, kernel=_overlap)


def put_back(square: Tensor, crop: SquareCrop, window: Box | None = None) -> Tensor:
    """Return the photo's pixels from the square, at the photo's own size.

    The inverse of :func:`cut_out`.

    Args:
        square: float, (1, C, S, S), in [-1, 1]; S may be any size, e.g. an upscaled resolution.
        crop: the square.
        window: the pixels of the photo to return, within ``crop.box``; absent: all of them.

    Returns:
        float, (1, C, height, width) of the window, in [-1, 1].

    Raises:
        ValueError: the window is empty or reaches outside ``crop.box``.
    """
    top, left, bottom, right = window or crop.box
    box = crop.box
    if not (box[0] <= top < bottom <= box[2] and box[1] <= left < right <= box[3]):
        raise ValueError(f"window {window} is empty or outside the square's box {box}")
    step = square.shape[-1] / crop.side
    first_row, first_column = (
        (start + 0.5) * step - 0.5 for start in (top - crop.top, left - crop.left)
    )
    # Of the square only the rows that the window needs, and those reflected at its edges.
    reach = math.ceil(_REACH * max(step, 1.0)) + 1
    low = max(0, math.floor(first_row) - reach)
    high = math.ceil(first_row + step * (bottom - top)) + reach
    columns = _resample_rows(square[..., low:high, :].mT, first_column, step, right - left, _cubic)
    rows = columns.mT.contiguous()
    pixels = _resample_rows(rows, first_row - low, step, bottom - top, _cubic)
    return pixels.clamp_(-1.0, 1.0)


def _read_square(
    inner: Tensor, crop: SquareCrop, *, resolution: int, block: int, kernel: Kernel
) -> Tensor:
    """Resample the square from its box, (1, C, h, w) in blocks of so many photo pixels."""
    top, left, _, _ = crop.box
    step = crop.side / resolution / block
    first_row, first_column = (
        (start / block) + step / 2 - 0.5 for start in (crop.top - top, crop.left - left)
    )
    rows = _resample_rows(inner, first_row, step, resolution, kernel)
    return _resample_rows(rows.mT, first_column, step, resolution, kernel).mT.contiguous()


def _resample_rows(image: Tensor, first: float, step: float, count: int, kernel: Kernel) -> Tensor:
    """Resample the rows of (..., n, m) at ``first + step * i``, reflecting what lies outside.

    Returns:
        float, (..., count, m); uint8 and bool images become floats in chunks.
    """
    length = image.shape[-2]
    dtype = image.dtype if image.is_floating_point() else torch.float32
    resampled = torch.empty(
        (*image.shape[:-2], count, image.shape[-1]), dtype=dtype, device=image.device
    )
    reach = _REACH * max(step, 1.0)
    for begin in range(0, count, _CHUNK):
        end = min(begin + _CHUNK, count)
        centers = first + step * torch.arange(begin, end, dtype=torch.float64)
        low = math.floor(float(centers[0]) - reach) + 1
        high = max(low + 1, math.ceil(float(centers[-1]) + reach))
        positions = torch.arange(low, high)
        weights = kernel(positions - centers[:, None], step)
        weights = weights / weights.sum(dim=1, keepdim=True)
        if low >= 0 and high <= length:
            rows = image[..., low:high, :]
        else:
            rows = image.index_select(-2, _reflected(positions, length).to(image.device))
        resampled[..., begin:end, :] = weights.to(image.device, dtype) @ _to_float(rows)
    return resampled


def _to_float(rows: Tensor) -> Tensor:
    if rows.dtype == torch.uint8:
        return to_model_range(rows)
    return rows if rows.is_floating_point() else rows.float()


def _reflected(positions: Tensor, length: int) -> Tensor:
    """Fold positions into 0..length - 1 by reflection at the first and the last of these."""
    period = max(1, 2 * (length - 1))
    folded = positions % period
    return torch.minimum(folded, period - folded).clamp_max(length - 1)


def _cubic(distance: Tensor, step: float) -> Tensor:
    """Weights of the cubic of Keys (1981), Eq. 15 (a = -1/2), widened to ``step`` against aliasing.

    The kernel of antialiased bicubic interpolation in Pillow and torch.
    """
    s = distance.abs() / max(step, 1.0)
    near = (1.5 * s - 2.5) * s * s + 1.0
    far = ((-0.5 * s + 2.5) * s - 4.0) * s + 2.0
    return torch.where(s < 1.0, near, torch.where(s < 2.0, far, 0.0))


def _overlap(distance: Tensor, step: float) -> Tensor:
    """Share of a pixel ``step`` wide that a pixel of width 1 covers, times a constant."""
    overlap = ((1.0 + step) / 2.0 - distance.abs()).clamp_max(min(1.0, step))
    return torch.where(overlap < _NO_SHARE * min(1.0, step), 0.0, overlap)


def _block_means(photo: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Average blocks of ``block x block`` pixels; those at the far edges may be smaller."""
    if block == 1:
        return np.require(photo, requirements=["C", "W"])
    # In bands, as Pillow copies what it reads to pixels of four bytes.
    bands = [
        np.asarray(Image.fromarray(photo[top : top + _CHUNK * block]).reduce(block))
        for top in range(0, photo.shape[0], _CHUNK * block)
    ]
    return np.concatenate(bands)
