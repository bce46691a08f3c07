"""Paint for "make this region that color" which keeps the region's light, shade and strands."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.imaging.masks import Mask

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G, B in luma (ITU-R BT.601)."""

DARKEST = 0.15
"""Least share of the color that shadows keep."""

GLOSS = 0.5
"""Share of a highlight that goes to white; the rest brightens the color itself."""

OUTLIERS = 0.005
"""Share of pixels at each end of the region's luma for which no room is made."""

_LEVELS = 8  # steps of luma that are told apart, per gray level
_BAND_ROWS = 32  # read at once: stays within the processor's cache


def recolor(photo: NDArray[np.uint8], mask: Mask, color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Give the masked pixels a color and keep their differences of luma.

    Luma of gamma-encoded sRGB is close to lightness, so equal differences look alike on any color:
    a pixel d gray levels lighter than the region's mean becomes the color made lighter by d. What
    is darker goes from the color towards black, what is lighter towards white and towards the
    brighter color in equal parts, or more towards white where a channel would reach 255. One shift
    a channel then brings the mean color back to the color asked for. Differences are lost only
    where the color leaves no room for them: below 15 % of it and above 255.

    Args:
        photo: uint8, (H, W, 3).
        mask: bool, (H, W); at least one pixel.
        color: (R, G, B) in 0..255.

    Returns:
        The painted photo, uint8, (H, W, 3); unchanged outside the mask.
    """
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, mask.shape[0], _BAND_ROWS)]
    levels = np.concatenate([_luma_levels(photo[band], mask[band]) for band in bands])
    table = _paint_by_level(np.bincount(levels, minlength=255 * _LEVELS + 1), color)
    painted = photo.copy()
    for channel in range(3):
        values, start = table[channel][levels], 0
        for band in bands:
            inside = mask[band]
            end = start + int(np.count_nonzero(inside))
            painted[band, :, channel][inside] = values[start:end]
            start = end
    return painted


def _luma_levels(photo: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint16]:
    """Return the luma of the masked pixels in steps of 1/8, uint16, (n,)."""
    # Channel by channel: numpy picks single bytes several times as fast as groups of three.
    red, green, blue = (photo[..., channel][mask] for channel in range(3))
    luma = red * (_LEVELS * LUMA[0]) + green * (_LEVELS * LUMA[1]) + blue * (_LEVELS * LUMA[2])
    levels: NDArray[np.uint16] = np.rint(luma, out=luma).astype(np.uint16)
    return levels


def _paint_by_level(counts: NDArray[np.int64], color: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the paint of each level of luma, uint8, (3, levels), for a region's histogram."""
    shares = counts / counts.sum()
    luma = np.arange(len(counts)) / _LEVELS
    difference = luma - shares @ luma
    target = np.array(color, dtype=np.float64)[:, None]
    target_luma = float(LUMA.astype(np.float64) @ target[:, 0])
    # Each sums to 1 when weighted by LUMA: a difference of luma stays what it is.
    to_black = target / max(target_luma, 1.0)
    to_white = (255.0 - target) / max(255.0 - target_luma, 1.0)

    below = np.maximum(np.minimum(difference, 0.0), (DARKEST - 1.0) * target_luma)
    above = np.maximum(difference, 0.0)
    usual = (np.cumsum(shares) > OUTLIERS) & (np.cumsum(shares[::-1])[::-1] > OUTLIERS)
    highest = float(above[usual].max(initial=0.0))
    brighter = _brighter_share(target, to_black, to_white, highest=highest)
    lighter = brighter * to_black + (1.0 - brighter) * to_white
    paint = target + below * to_black + above * lighter

    shift = target - paint @ shares[:, None]
    in_use = paint[:, usual] if usual.any() else paint
    most, least = in_use.max(axis=1, keepdims=True), in_use.min(axis=1, keepdims=True)
    shift = np.clip(shift, np.minimum(-least, 0.0), np.maximum(255.0 - most, 0.0))
    table: NDArray[np.uint8] = np.rint(np.clip(paint + shift, 0.0, 255.0)).astype(np.uint8)
    return table


def _brighter_share(
    target: NDArray[np.float64],
    to_black: NDArray[np.float64],
    to_white: NDArray[np.float64],
    *,
    highest: float,
) -> float:
    """Return how much of a highlight may brighten the color before a channel exceeds 255."""
    room = (255.0 - target) / max(highest, 1.0) - to_white
    excess = to_black - to_white
    shares = room[excess > 0.0] / excess[excess > 0.0]
    return float(np.clip(shares.min(initial=1.0 - GLOSS), 0.0, 1.0 - GLOSS))
