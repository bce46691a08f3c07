"""Masks: 1 = edit, 0 = keep, as bool (H, W) arrays at the photo's own size."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.imaging.geometry import Box, SquareCrop, fill_square

Mask = NDArray[np.bool_]

MAX_FEATHER_PX = 64


def bounding_box(mask: Mask) -> Box | None:
    """Return (top, left, bottom, right) of the True pixels, the ends exclusive; None if none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def mask_to_model(mask: Mask, crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return the mask of a square at model resolution: 1 wherever any masked pixel reaches.

    Where the square is larger than the photo the mask is reflected as the photo is, so that
    reflections of edited pixels are edited too.

    Args:
        mask: bool, (H, W), of the whole photo.
        crop: the square.
        resolution: side of the result, in pixels.

    Returns:
        bool, (1, 1, resolution, resolution).
    """
    # Adaptive bins run from floor to ceil of their edges: every pixel touched counts.
    return _pooled(mask, crop, resolution=resolution, pool=F.adaptive_max_pool2d) > 0.5


def mask_coverage(mask: Mask, crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return which share of each pixel of a square is masked; arguments as `mask_to_model`.

    Returns:
        float32, (1, 1, resolution, resolution), in [0, 1].
    """
    return _pooled(mask, crop, resolution=resolution, pool=F.adaptive_avg_pool2d)


def _pooled(
    mask: Mask,
    crop: SquareCrop,
    *,
    resolution: int,
    pool: Callable[[Tensor, tuple[int, int]], Tensor],
) -> Tensor:
    top, left, bottom, right = crop.box
    box = crop.visible(resolution)
    inner = torch.from_numpy(mask[top:bottom, left:right].astype(np.float32))[None, None]
    pooled = pool(inner, (box[2] - box[0], box[3] - box[1]))
    return fill_square(pooled, box, resolution=resolution)


def feather_inside(mask: Mask, *, radius_px: int) -> NDArray[np.float32]:
    """Return the opacity of an edit: 0 outside the mask, rising to 1 from its border inwards.

    Opacity is the Euclidean distance to the nearest unmasked pixel over the ramp's length,
    at most 1. The ramp is ``radius_px + 1`` pixels long, but no longer than half the mask's local
    thickness (the largest distance found nearby), so that thin masks are still edited. The
    photo's border is no border of the mask: an edit that touches it is opaque there.

    Args:
        mask: bool, (H, W).
        radius_px: pixels that are not fully opaque, 0..64; 0 gives the mask itself.

    Returns:
        float32, (H, W), in [0, 1]; positive on every masked pixel.

    Raises:
        ValueError: the radius is out of range.
    """
    if not 0 <= radius_px <= MAX_FEATHER_PX:
        raise ValueError(f"radius_px is {radius_px}; choose from 0 to {MAX_FEATHER_PX}")
    opacity = mask.astype(np.float32)
    box = bounding_box(mask)
    if radius_px < 1 or box is None:
        return opacity
    # The mask's box and a pixel around it, where that is inside the photo, decide everything.
    window = np.s_[max(box[0] - 1, 0) : box[2] + 1, max(box[1] - 1, 0) : box[3] + 1]
    reach = 2 * radius_px + 1
    squared = _squared_distance_inside(mask[window], reach=reach)
    distance = np.sqrt(squared, dtype=np.float32)
    thickness = np.sqrt(_box_maximum(squared, radius=reach), dtype=np.float32)
    ramp = np.minimum(np.float32(radius_px + 1), (thickness + 1) / 2)
    opacity[window] = np.minimum(1.0, distance / ramp)
    return opacity


def _squared_distance_inside(mask: Mask, *, reach: int) -> NDArray[np.uint16]:
    """Exact squared distance to the nearest False pixel, cut off at ``reach``; 0 on False.

    Felzenszwalb and Huttenlocher (2012): the transform separates into columns, then rows. With
    a reach of a few pixels, trying every offset is shorter than the lower envelope.
    """
    # 16 bits hold twice the largest square, and halve the time: it is all memory traffic.
    squared = np.where(mask, np.uint16(reach**2), np.uint16(0))
    for axis in (0, 1):
        nearest = squared.copy()
        for offset in range(1, min(reach, mask.shape[axis])):
            ahead, behind = _shifted(axis, offset)
            np.minimum(nearest[behind], squared[ahead] + np.uint16(offset**2), out=nearest[behind])
            np.minimum(nearest[ahead], squared[behind] + np.uint16(offset**2), out=nearest[ahead])
        squared = nearest
    return squared


def _box_maximum(values: NDArray[np.uint16], *, radius: int) -> NDArray[np.uint16]:
    """Maximum over the square of (2 radius + 1)^2 pixels around each pixel."""
    for axis in (0, 1):
        largest = values.copy()
        for offset in range(1, min(radius + 1, values.shape[axis])):
            ahead, behind = _shifted(axis, offset)
            np.maximum(largest[behind], values[ahead], out=largest[behind])
            np.maximum(largest[ahead], values[behind], out=largest[ahead])
        values = largest
    return values


def _shifted(axis: int, offset: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Indices of the pixels that have one ``offset`` before them, and of those one."""
    before = (slice(None),) * axis
    return (*before, slice(offset, None)), (*before, slice(None, -offset))
