"""Edit transfer: what an edit did to the colors, done to the photo's own pixels.

The edited square has the model's few pixels; the photo has many. Where an edit changes color and
not structure, its effect is a smooth field of color changes, which can be found in the small
square and applied to the large photo: every real hair stays. The field is that of the guided
filter (He, Sun and Tang, "Guided Image Filtering", PAMI 2013, Eq. 5, 6 and 8), fitted at low
resolution and enlarged as in the fast guided filter (He and Sun 2015). One deviation: both small
images are smoothed before the fit, for the fine contrast a diffusion model loses is not a change
anybody asked for.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G, B in luma (ITU-R BT.601)."""

RIDGE = 4e-4
"""Added to the variance of luma, in [-1, 1] squared: contrast below 2.5 of 255 is noise."""

SMOOTHING_RADIUS = 2
"""Pixels around each small pixel that are averaged before the fit."""


def transfer_edit_(
    photo: Tensor, *, before: Tensor, after: Tensor, weight: Tensor, radius: int
) -> Tensor:
    """Apply the local color change between two small images to a large one, in place.

    In each window of the small images the change of every channel is fitted as an affine function
    of luma, ``after - before = gain * luma(before) + offset``, by weighted ridge regression; the
    fits of all windows that cover a pixel are averaged, enlarged and applied to the photo. Equal
    images leave the photo as it is, bit for bit.

    Args:
        photo: float32, (1, 3, H, W), in [-1, 1]; overwritten.
        before: the photo at low resolution, float, (1, 3, h, w), in [-1, 1].
        after: its edit, as ``before``.
        weight: how much each small pixel counts, (1, 1, h, w), >= 0: the mask's coverage.
        radius: windows have 2 * radius + 1 small pixels a side.

    Returns:
        The photo. Pixels more than ``radius`` small pixels away from any weight do not change.

    Raises:
        ValueError: the small images' shapes differ, or the radius is below 1.
    """
    if before.shape != after.shape or weight.shape[-2:] != before.shape[-2:]:
        raise ValueError(
            f"before {tuple(before.shape)}, after {tuple(after.shape)} and weight "
            f"{tuple(weight.shape)} differ in size"
        )
    if radius < 1:
        raise ValueError(f"radius is {radius}; choose at least 1 pixel")
    gain, offset = fit_color_change(before, after, weight=weight, radius=radius)
    size = tuple(photo.shape[-2:])
    luma = _luma(photo)
    # One channel at a time: the enlarged fields of a 16-megapixel photo take 67 MB each.
    for channel in range(3):
        plane = photo[:, channel : channel + 1]
        plane.addcmul_(_enlarged(gain[:, channel : channel + 1], size), luma)
        plane.add_(_enlarged(offset[:, channel : channel + 1], size))
    return photo.clamp_(-1.0, 1.0)


def fit_color_change(
    before: Tensor, after: Tensor, *, weight: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """Return gain and offset of :func:`transfer_edit_`, each float32 (1, 3, h, w)."""
    weight = weight.float()

    def mean(values: Tensor, radius: int = radius) -> Tensor:
        total, sums = _window_mean(weight, radius), _window_mean(weight * values, radius)
        # No weight in the window: zero, not a division of rounding errors.
        return torch.where(total > 1e-6, sums / total.clamp_min(1e-6), 0.0)

    luma = mean(_luma(before), SMOOTHING_RADIUS)
    change = mean((after - before).float(), SMOOTHING_RADIUS)
    mean_luma, mean_change = mean(luma), mean(change)
    variance = mean(luma.square()) - mean_luma.square()
    covariance = mean(luma * change) - mean_luma * mean_change
    gain = covariance / (variance.clamp_min(0.0) + RIDGE)
    offset = mean_change - gain * mean_luma
    return mean(gain), mean(offset)


def _luma(image: Tensor) -> Tensor:
    red, green, blue = torch.split(image.float(), 1, dim=1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _window_mean(values: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(values, 2 * radius + 1, stride=1, padding=radius)


def _enlarged(field: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(field, size=size, mode="bilinear", align_corners=False)
