"""Paint for "make this region that color" which keeps the region's shading."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.imaging.masks import Mask

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G, B in luma (ITU-R BT.601)."""

SHADING_RANGE = (0.35, 1.8)
"""Bounds of a pixel's shading relative to the region's mean."""

DARK_OFFSET = 8.0
"""Added to luma (0..255), so that the noise of a nearly black region is not taken for shading."""


def recolor(photo: NDArray[np.uint8], mask: Mask, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Give the masked pixels a color and keep their light and shade.

    Each pixel becomes the color, darkened or brightened by its shading: its luma relative to the
    region's mean, bounded to 0.35..1.8 so that shadows and highlights stay shadows and highlights
    of that color. Brightening is weaker the brighter the color is, for it ends at white. One
    factor a channel then brings the region's mean color back to the color asked for.

    Args:
        photo: uint8, (H, W, 3).
        mask: bool, (H, W); at least one pixel.
        color: (R, G, B) in 0..255.

    Returns:
        The painted photo, uint8, (H, W, 3); unchanged outside the mask.
    """
    luma = photo[mask].astype(np.float32) @ LUMA + DARK_OFFSET
    shading = np.clip(luma / luma.mean(), *SHADING_RANGE)[:, None]
    target = np.asarray(color, dtype=np.float32)
    highlight = np.maximum(shading - 1.0, 0.0) * (1.0 - target / 255.0)
    paint = target * (np.minimum(shading, 1.0) + highlight)
    paint *= target / np.maximum(paint.mean(axis=0), 1.0)
    painted = photo.copy()
    painted[mask] = np.rint(np.clip(paint, 0.0, 255.0)).astype(np.uint8)
    return painted
