"""Masks: 1 = edit, 0 = keep, as bool (H, W) arrays at the photo's own size."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.imaging.geometry import Box, SquareCrop, cut_out_share

Mask = NDArray[np.bool_]
Tile = tuple[slice, slice]

MAX_FEATHER_PX = 64

_MIN_TILE = 64  # pixels a side
_MARGINS_PER_TILE = 8  # what is computed twice is then at most half of a tile


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
    return cut_out_share(mask, crop, resolution=resolution) > 0.0


def mask_coverage(mask: Mask, crop: SquareCrop, *, resolution: int) -> Tensor:
    """Return which share of each pixel of a square is masked; arguments as `mask_to_model`.

    Returns:
        float32, (1, 1, resolution, resolution), in [0, 1].
    """
    return cut_out_share(mask, crop, resolution=resolution)


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
    opacity = np.zeros(mask.shape, np.float32)
    for tile, values in feather_tiles(mask, radius_px=radius_px):
        opacity[tile] = 1.0 if values is None else values
    return opacity


def feather_tiles(
    mask: Mask, *, radius_px: int
) -> Iterator[tuple[Tile, NDArray[np.float32] | None]]:
    """Yield the opacity of :func:`feather_inside` tile by tile, without tiles that are all 0.

    Distances matter along the mask's border only: a tile that is masked, and so are all around
    it, is opaque.

    Yields:
        Where a tile lies, and its opacity, float32, (h, w), or None where it is 1 everywhere.

    Raises:
        ValueError: the radius is out of range.
    """
    if not 0 <= radius_px <= MAX_FEATHER_PX:
        raise ValueError(f"radius_px is {radius_px}; choose from 0 to {MAX_FEATHER_PX}")
    # What a pixel's opacity depends on: distances up to the reach, of pixels up to it away.
    margin = 2 * _reach(radius_px)
    side = max(_MIN_TILE, _MARGINS_PER_TILE * margin)
    any_masked, all_masked = _tile_table(mask, side, np.any), _tile_table(mask, side, np.all)
    padded = np.pad(all_masked, 1, constant_values=True)  # The photo's border is no mask border.
    opaque: Mask = np.all(sliding_window_view(padded, (3, 3)), axis=(2, 3))
    for row, column in np.argwhere(any_masked):
        top, left = row * side, column * side
        tile = np.s_[top : top + side, left : left + side]
        if opaque[row, column]:
            yield tile, None
            continue
        y, x = max(top - margin, 0), max(left - margin, 0)
        around = mask[y : top + side + margin, x : left + side + margin]
        inner = np.s_[top - y : top - y + side, left - x : left - x + side]
        yield tile, _feathered(around, radius_px=radius_px)[inner]


def _tile_table(mask: Mask, side: int, of: Callable[..., NDArray[np.bool_]]) -> Mask:
    """Apply np.any or np.all to each tile."""
    rows = [of(mask[top : top + side], axis=0) for top in range(0, mask.shape[0], side)]
    table = np.stack(rows)
    columns = [of(table[:, left : left + side], axis=1) for left in range(0, mask.shape[1], side)]
    return np.stack(columns, axis=1)


def _feathered(mask: Mask, *, radius_px: int) -> NDArray[np.float32]:
    """Return the opacity of :func:`feather_inside` of a part of a mask; its rim is not exact."""
    if radius_px < 1:
        return mask.astype(np.float32)
    reach = _reach(radius_px)
    squared = _squared_distance_inside(mask, reach=reach)
    distance = np.sqrt(squared, dtype=np.float32)
    thickness = np.sqrt(_box_maximum(squared, radius=reach), dtype=np.float32)
    ramp = np.minimum(np.float32(radius_px + 1), (thickness + 1) / 2)
    return np.minimum(np.float32(1.0), distance / ramp)


def _reach(radius_px: int) -> int:
    """Distances and thicknesses beyond this make no difference."""
    return 2 * radius_px + 1 if radius_px else 0


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
            further = squared + np.uint16(offset**2)
            ahead, behind = _shifted(axis, offset)
            np.minimum(nearest[behind], further[ahead], out=nearest[behind])
            np.minimum(nearest[ahead], further[behind], out=nearest[ahead])
        squared = nearest
    return squared


def _box_maximum(values: NDArray[np.uint16], *, radius: int) -> NDArray[np.uint16]:
    """Maximum over the square of (2 radius + 1)^2 pixels around each pixel."""
    values = np.pad(values, radius)
    for axis in (0, 1):
        # Maxima over 2, 4, 8... pixels, then over two overlapping stretches of the last length.
        length, whole = 1, 2 * radius + 1
        while length < whole:
            step = min(length, whole - length)
            ahead, behind = _shifted(axis, step)
            values = np.maximum(values[behind], values[ahead])
            length += step
    return values


def _shifted(axis: int, offset: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Indices of the pixels that have one ``offset`` before them, and of those one."""
    before = (slice(None),) * axis
    return (*before, slice(offset, None)), (*before, slice(None, -offset))
