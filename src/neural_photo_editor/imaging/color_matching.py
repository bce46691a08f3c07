"""Color matching: takes back a color cast of an edit, as seen where edit and photo should agree."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.masks import Mask, bounding_box

GAINS = (0.8, 1.25)
"""Bounds of the factor on an edit's contrast."""

MAX_SHIFT = 32.0
"""Largest change of the ring's mean color, in gray levels of a channel."""

MIN_CELLS = 16
"""A ring of fewer cells says nothing."""

SAMPLES_ACROSS = 8
"""Pixels looked at across a ring, at least, where it is as wide."""

NOISE = 2.0
"""Gray levels by which cells that are alike may differ."""


def match_ring(original: Photo, edited: Photo, mask: Mask, *, width_px: int) -> Photo:
    """Give an edit the photo's colors, as a ring just inside the mask's border shows them.

    For each channel one affine function for the whole edit. It carries the ring's mean over to
    the photo's, as Reinhard et al., "Color Transfer between Images" (2001), Eq. 10 and 11. For the
    factor we do not take their ratio of standard deviations, which takes blur and newly drawn
    texture for a cast: by Frisch (1934) it lies between the slope of the regression of photo on
    edit and the inverse slope of that of edit on photo; of these, the number nearest to 1 is
    taken. Without noise all are the same. What is compared are means over cells half as wide as
    the ring, which blur changes little. Cells whose difference is far from the median difference
    (three standard deviations, estimated from the median absolute deviation) count as changed on
    purpose and are left out. The mean changes by 32 gray levels at most, the factor lies in
    0.8..1.25.

    Meant for edits that continue the photo, such as fills. An edit that is to have another color
    than the photo would lose a part of it.

    Args:
        original: the photo, uint8, (H, W, 3).
        edited: the edit, as the photo.
        mask: bool, (H, W); True = edit. Where it meets the photo's border, there is no ring.
        width_px: width of the ring, at least 1.

    Returns:
        The edit with other colors, outside the mask too, uint8, (H, W, 3): byte for byte the same
        if the ring shows no difference, or has fewer than 16 cells.

    Raises:
        ValueError: the sizes differ, or the width is below 1.
    """
    if original.shape != edited.shape or original.shape[:2] != mask.shape:
        raise ValueError(
            f"photo {original.shape}, edit {edited.shape} and mask {mask.shape} differ in size"
        )
    if width_px < 1:
        raise ValueError(f"width_px is {width_px}; choose at least 1")
    matched = edited.copy()
    before, after = _ring_means(original, edited, mask, width_px=width_px)
    if len(before) < MIN_CELLS:
        return matched
    levels = np.arange(256)
    for channel in range(3):
        gain, offset = _affine(after[:, channel], before[:, channel])
        table = np.rint(np.clip(gain * levels + offset, 0, 255)).astype(np.uint8)
        if (table != levels).any():
            matched[..., channel] = np.take(table, edited[..., channel])
    return matched


def _ring_means(
    original: Photo, edited: Photo, mask: Mask, *, width_px: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean colors of photo and edit, each (n, 3), in cells half as wide as the ring.

    The same pixels count in both: all of the ring, or an even selection.
    """
    box = bounding_box(mask)
    if box is None:
        return np.empty((0, 3)), np.empty((0, 3))
    every = max(1, width_px // SAMPLES_ACROSS)
    # Unmasked pixels around the box make the ring, so one row of the selection stays around it.
    window = tuple(
        slice(max(start - every, 0), end + every, every)
        for start, end in zip(box[:2], box[2:], strict=True)
    )
    inside = mask[window]
    width = max(1, round(width_px / every))
    ring = inside & ~minimum_filter(inside, 2 * width + 1, mode="constant", cval=True)
    rows, columns = (positions // max(1, width // 2) for positions in np.nonzero(ring))
    _, cells = np.unique(rows * inside.shape[1] + columns, return_inverse=True)
    counts = np.bincount(cells)
    before, after = (
        np.stack([np.bincount(cells, image[window][ring][:, i]) / counts for i in range(3)], -1)
        for image in (original, edited)
    )
    return before, after


def _affine(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[float, float]:
    """Return (gain, offset) that carry ``values`` over to ``wanted``, paired, robustly."""
    gain, offset = 1.0, float(np.median(wanted - values))
    for _ in range(5):  # Which pixels are alike settles after two or three rounds.
        error = wanted - (gain * values + offset)
        distance = np.abs(error - np.median(error))
        alike = distance <= 3 * 1.4826 * np.median(distance) + NOISE
        one, other = values[alike], wanted[alike]
        common = float(np.mean((one - one.mean()) * (other - other.mean())))
        slopes = (common / one.var(), other.var() / common) if common > 0 else (0.0, np.inf)
        gain = float(np.clip(np.clip(1.0, *slopes), *GAINS))
        shift = float(np.clip(other.mean() - one.mean(), -MAX_SHIFT, MAX_SHIFT))
        offset = shift + (1.0 - gain) * float(one.mean())
    return gain, offset
