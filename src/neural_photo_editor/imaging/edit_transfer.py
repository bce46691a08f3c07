"""Edit transfer: what an edit did to the colors, done to the photo's own pixels.

The edited square has the model's few pixels; the photo has many. Where an edit changes color and
not structure, its effect is a smooth field of color changes, which can be found in the small
square and added to the large photo: every real hair stays. The field is that of the guided
filter (He, Sun and Tang, "Guided Image Filtering", PAMI 2013, Eq. 5, 6 and 8), fitted and
evaluated at low resolution. Two deviations: both small images are smoothed before the fit, for the
fine contrast a diffusion model loses is not a change anybody asked for; and the field is enlarged,
not its coefficients as in the fast guided filter (He and Sun 2015), which would put a loss of
coarse contrast on the photo's fine contrast too.
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


def color_change(before: Tensor, after: Tensor, *, weight: Tensor, radius: int) -> Tensor:
    """Return the local change of color between two small images.

    In each window the change of every channel is fitted as an affine function of luma,
    ``after - before = gain * luma(before) + offset``, by weighted ridge regression; the fits of
    all windows that cover a pixel are averaged and evaluated there.

    Args:
        before: the photo at low resolution, float, (1, 3, h, w), in [-1, 1].
        after: its edit, as ``before``.
        weight: how much each pixel counts, (1, 1, h, w), >= 0: the mask's coverage.
        radius: windows have 2 * radius + 1 pixels a side.

    Returns:
        float32, (1, 3, h, w), to be enlarged and added to the photo. Zero more than ``radius``
        pixels away from any weight, and everywhere between equal images.

    Raises:
        ValueError: the images' shapes differ, or the radius is below 1.
    """
    if before.shape != after.shape or weight.shape[-2:] != before.shape[-2:]:
        raise ValueError(
            f"before {tuple(before.shape)}, after {tuple(after.shape)} and weight "
            f"{tuple(weight.shape)} differ in size"
        )
    if radius < 1:
        raise ValueError(f"radius is {radius}; choose at least 1 pixel")
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
    return mean(gain) * luma + mean(offset)


def _luma(image: Tensor) -> Tensor:
    red, green, blue = torch.split(image.float(), 1, dim=1)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _window_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over (2 radius + 1)^2 pixels, of which those beyond the border count as 0."""
    # First down, then across: a tenth of the time of square windows.
    size = 2 * radius + 1
    columns = F.avg_pool2d(values, (size, 1), stride=1, padding=(radius, 0))
    return F.avg_pool2d(columns, (1, size), stride=1, padding=(0, radius))
