"""What an edit must fulfil, measured on the photos alone."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.metrics.color_difference import ciede2000, srgb_to_lab

Photo = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SEAM_FLOOR = 1.0
"""Added to gradients, 0..255, before they are divided: less than that is rounding."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in luma (ITU-R BT.601)."""

DARK = 16.0
"""Gray, 0..255, added before colors are compared: nearly black pixels have no hue to speak of."""


def max_difference_outside(original: Photo, result: Photo, mask: Mask) -> int:
    """Return the largest change of a channel, 0..255, outside the mask.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ.
    """
    _check_sizes(original, result, mask)
    difference = np.abs(original.astype(np.int16) - result.astype(np.int16))[~mask]
    return int(difference.max(initial=0))


def share_unchanged_outside(original: Photo, result: Photo, mask: Mask) -> float:
    """Return the share of the pixels outside the mask that are the original's, 0..1.

    1 where nothing lies outside the mask.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ.
    """
    _check_sizes(original, result, mask)
    unchanged = (original == result).all(axis=-1)[~mask]
    return float(unchanged.mean()) if unchanged.size else 1.0


def mean_change_inside(original: Photo, result: Photo, mask: Mask) -> float:
    """Return the mean absolute change of a channel inside the mask, 0..255.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ or the mask is empty.
    """
    _check_inside(original, result, mask)
    difference = np.abs(original.astype(np.int16) - result.astype(np.int16))[mask]
    return float(difference.mean())


def paint_difference(painted: Photo, result: Photo, mask: Mask) -> float:
    """Return how far the result's colors lie from the paint's: mean CIEDE2000 inside the mask.

    Pixel by pixel, so that lost shading counts as well as another color; 0 = the paint itself.

    Args:
        painted: the photo with its paint, uint8, (H, W, 3).
        result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ or the mask is empty.
    """
    _check_inside(painted, result, mask)
    return float(ciede2000(srgb_to_lab(painted[mask]), srgb_to_lab(result[mask])).mean())


def seam(original: Photo, result: Photo, mask: Mask, *, width_px: int = 1) -> float:
    """Return how visible the mask's border is in the result, beside the original there.

    Along every row and column that crosses the border, let p and q be the means of the w =
    ``width_px`` pixels next to the border inside and outside the mask, p' and q' those of the w
    pixels behind them. The gradient's jump at the border,

        j = |(p - q) - ((p' - p) + (q - q')) / 2|,

    is 0 on a ramp of any slope and s where two flat sides differ by s. The seam is the mean jump
    of the result over that of the original, over all such lines and channels, each plus
    SEAM_FLOOR:

        seam = (mean j(result) + SEAM_FLOOR) / (mean j(original) + SEAM_FLOOR).

    So the original itself has 1 exactly, a border that shows more than 1, a blurred one less. A
    width of 1 sees hard edges; soft ones are seen by a width of about twice theirs.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.
        width_px: pixels that are averaged, at least 1.

    Raises:
        ValueError: the sizes differ, the width is below 1, or the mask has no border that is
            2 * width_px pixels away from the photo's.
    """
    _check_sizes(original, result, mask)
    if width_px < 1:
        raise ValueError(f"width_px is {width_px}; choose at least 1")
    jumps = [_border_jumps(original, result, mask, axis=a, width=width_px) for a in (0, 1)]
    if not sum(map(len, jumps)):
        raise ValueError(
            f"no border of the mask is {2 * width_px} pixels inside the photo: choose a smaller "
            "width_px, or leave the seam out"
        )
    before, after = np.concatenate(jumps).mean(axis=(0, 2))
    return float((after + SEAM_FLOOR) / (before + SEAM_FLOOR))


def color_movement(
    original: Photo, result: Photo, mask: Mask, *, paint: NDArray[np.uint8]
) -> float:
    """Return how far the mean color inside the mask moved from the original's to the paint's.

    The mean change, projected on the way from original to paint: 0 = not at all, 1 = all the way.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.
        paint: one color, uint8 (3,), or the painted photo, uint8 (H, W, 3).

    Raises:
        ValueError: the sizes differ, the mask is empty, or the paint is the original's color.
    """
    _check_inside(original, result, mask)
    before, after = original[mask].mean(axis=0), result[mask].mean(axis=0)
    target = paint.astype(float) if paint.ndim == 1 else paint[mask].mean(axis=0)
    way = target - before
    length_squared = float(way @ way)
    if length_squared < 1.0:
        raise ValueError("the paint has the original's mean color: choose another")
    return float((after - before) @ way) / length_squared


def detail_kept(original: Photo, result: Photo, mask: Mask) -> float:
    """Return the ratio of fine luma contrast inside the mask, result over original.

    Fine contrast is the standard deviation of luma minus its 9x9 mean: strands and shading edges
    count, the overall color does not. Luma of gamma-encoded colors is close to lightness, so equal
    contrast looks alike on light and dark colors. Pixels whose neighborhood reaches beyond the
    mask are left out where enough others remain.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ or the mask is empty.
    """
    _check_inside(original, result, mask)
    inner = _box_mean(mask.astype(float)) > 0.999
    where = inner if inner.sum() >= 50 else mask
    before, after = (_fine_contrast(photo, where) for photo in (original, result))
    return after / max(before, 1e-6)


def shading_kept(original: Photo, result: Photo, mask: Mask) -> float:
    """Return the correlation of original and result luma inside the mask, -1..1.

    1 = light and shade lie where they lay, whatever the color; near 0 = unrelated, which tells
    noise from the detail that :func:`detail_kept` measures. A flat region counts as 0.

    Args:
        original, result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ or the mask is empty.
    """
    _check_inside(original, result, mask)
    before, after = (photo[mask].astype(float) @ LUMA for photo in (original, result))
    spread = before.std() * after.std()
    if spread < 1e-9:
        return 0.0
    return float(((before - before.mean()) * (after - after.mean())).mean() / spread)


def color_patches(painted: Photo, result: Photo, mask: Mask) -> float:
    """Return how patchy the result's color is where the paint's is not, 0..255; 0 = not at all.

    Chromaticity (RGB divided by luma, times 128) of result and painted photo are compared after
    averaging over 9x9 pixels of the mask; how much their difference varies from place to place
    is the root of its variance, all channels summed. A color that differs from the paint
    everywhere alike, lighter or darker places and fine grain do not count.

    Args:
        painted: the photo with its paint, uint8, (H, W, 3).
        result: uint8, (H, W, 3).
        mask: bool, (H, W); True = edit.

    Raises:
        ValueError: the sizes differ or the mask is empty.
    """
    _check_inside(painted, result, mask)
    difference = _local_chromaticity(result, mask) - _local_chromaticity(painted, mask)
    return float(np.sqrt(difference.var(axis=0).sum()))


def _local_chromaticity(photo: Photo, mask: Mask) -> NDArray[np.float64]:
    """Return RGB over luma of each masked pixel's surroundings in the mask, (N, 3), times 128."""
    local = np.stack(
        [_box_mean(photo[..., c].astype(float) * mask)[mask] for c in range(3)], axis=-1
    )
    local /= _box_mean(mask.astype(float))[mask][:, None]
    chromaticity: NDArray[np.float64] = 128.0 * (local + DARK) / ((local @ LUMA)[:, None] + DARK)
    return chromaticity


def _fine_contrast(photo: Photo, where: Mask) -> float:
    luma = photo.astype(float) @ LUMA
    return float((luma - _box_mean(luma))[where].std())


def _box_mean(image: NDArray[np.float64], *, radius: int = 4) -> NDArray[np.float64]:
    """Average a (2 radius + 1)-sided square around each pixel, edges repeated."""
    for axis in (0, 1):
        pad = [(radius + 1, radius) if axis == a else (0, 0) for a in (0, 1)]
        sums = np.pad(image, pad, mode="edge").cumsum(axis=axis)
        size, width = image.shape[axis], 2 * radius + 1
        upper = np.take(sums, np.arange(width, width + size), axis=axis)
        image = (upper - np.take(sums, np.arange(size), axis=axis)) / width
    return image


def _border_jumps(
    original: Photo, result: Photo, mask: Mask, *, axis: int, width: int
) -> NDArray[np.float64]:
    """Return the jumps of :func:`seam` along one axis, (lines, 2, 3): original's, result's."""
    inside = np.moveaxis(mask, axis, 0)
    starts = max(0, len(inside) - 4 * width + 1)
    # The border lies in the middle of four means; a mirror image of them has the same jump.
    middle = 2 * width - 1
    crosses = inside[middle : middle + starts] != inside[middle + 1 : middle + 1 + starts]
    jumps = []
    for photo in (original, result):
        image = np.moveaxis(photo, axis, 0).astype(np.float64)
        sums = np.cumsum(np.concatenate([np.zeros_like(image[:1]), image]), axis=0)
        means = (sums[width:] - sums[:-width]) / width
        a, b, c, d = (means[k * width : k * width + starts][crosses] for k in range(4))
        jumps.append(np.abs((c - b) - ((b - a) + (d - c)) / 2.0))
    return np.stack(jumps, axis=1)


def _check_inside(original: Photo, result: Photo, mask: Mask) -> None:
    _check_sizes(original, result, mask)
    if not mask.any():
        raise ValueError("the mask is empty: nothing can be measured inside it")


def _check_sizes(original: Photo, result: Photo, mask: Mask) -> None:
    if original.shape != result.shape or original.shape[:2] != mask.shape:
        raise ValueError(
            f"original {original.shape}, result {result.shape} and mask {mask.shape} differ in size"
        )
