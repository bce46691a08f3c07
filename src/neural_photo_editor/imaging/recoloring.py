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

_BAND_ROWS = 32  # painted at once: stays within the processor's cache


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
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, mask.shape[0], _BAND_ROWS)]
    luma = np.concatenate([_luma(photo[band], mask[band]) for band in bands]) + DARK_OFFSET
    shading = np.clip(luma / luma.mean(), *SHADING_RANGE, dtype=np.float32)
    shade, highlight = np.minimum(shading, 1.0), np.maximum(shading - 1.0, 0.0)
    mean_shade, mean_highlight = shade.mean(dtype=np.float64), highlight.mean(dtype=np.float64)
    painted = photo.copy()
    for channel, target in enumerate(color):
        brightening = 1.0 - target / 255.0
        mean_paint = target * (mean_shade + mean_highlight * brightening)
        paint = shade + highlight * np.float32(brightening)
        paint *= np.float32(target * target / max(mean_paint, 1.0))
        values = np.rint(np.clip(paint, 0.0, 255.0, out=paint)).astype(np.uint8)
        start = 0
        for band in bands:
            inside = mask[band]
            end = start + int(np.count_nonzero(inside))
            painted[band, :, channel][inside] = values[start:end]
            start = end
    return painted


def _luma(photo: NDArray[np.uint8], mask: Mask) -> NDArray[np.float32]:
    """Return the luma of the masked pixels, float32, (n,), in 0..255."""
    # Channel by channel: numpy picks single bytes several times as fast as groups of three.
    red, green, blue = (photo[..., channel][mask] for channel in range(3))
    luma: NDArray[np.float32] = red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
    return luma
