"""Where an edit drew something new, and where it only changed colors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.imaging.edit_transfer import LUMA

SIGMA = 1.5
"""Standard deviation of the windows, in pixels (Wang et al. 2004, section III-B)."""

RADIUS = 5
"""The windows' reach: 11 x 11 pixels, as in the same paper."""

NOISE = (4.0 / 127.5) ** 2
"""Variance of luma, in [-1, 1] squared, that is no structure: 4 gray levels of 255."""

NONE, ALL = 0.25, 0.8
"""Shares of new variance below and above which a place counts as all old and all new."""


def structure_change(before: Tensor, after: Tensor) -> Tensor:
    """Return where ``after`` has structure that ``before`` lacks.

    In each Gaussian window the luma of ``after`` is explained by an affine function of the colors
    of ``before``: a ridge regression on red, green and blue, with the noise's variance as ridge.
    What is left over, as a share of the variance of ``after``, is

        new = (var(after) - c^T (C + noise I)^-1 c) / (var(after) + noise)

    with C the 3 x 3 covariance of ``before`` and c its covariance with ``after``. A smooth step
    turns it into 0 below 0.25, which no affine change of color reaches unless it raises contrast,
    and 1 above 0.8. For gray images without noise it is 1 - s^2 with s the structure term of SSIM
    (Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment", 2004, Eq. 10), the local
    normalized correlation. We deviate in the colors, for where a region meets its surroundings at
    equal luma any recoloring would count as a new edge; and in SSIM's constant, for which texture
    on a flat place is no change. What is flat afterwards is no change here.

    Args:
        before: float, (1, 3, h, w), in [-1, 1].
        after: as ``before``.

    Returns:
        float32, (1, 1, h, w), in [0, 1].

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(
            f"before {tuple(before.shape)} and after {tuple(after.shape)} differ in size"
        )
    colors, luma = before.float(), _luma(after)
    pairs = torch.cat([colors[:, i : i + 1] * colors[:, i:] for i in range(3)], dim=1)
    planes = torch.cat([colors, luma, pairs, colors * luma, luma.square()], dim=1)
    means = _window_means(planes.transpose(0, 1)).squeeze(1)
    mean, mean_luma = means[:3], means[3]
    # C from its upper triangle, with its axes last: (h, w, 3, 3).
    upper = means[4:10][[0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(3, 3, *luma.shape[-2:])
    spread = (upper - mean[:, None] * mean[None, :]).permute(2, 3, 0, 1)
    common = (means[10:13] - mean * mean_luma).permute(1, 2, 0)
    variance = (means[13] - mean_luma.square()).clamp_min(0.0)
    ridge = NOISE * torch.eye(3, device=spread.device)
    explained = (common * torch.linalg.solve(spread + ridge, common)).sum(dim=-1)
    share = (variance - explained) / (variance + NOISE)
    position = ((share - NONE) / (ALL - NONE)).clamp(0.0, 1.0)
    change: Tensor = position.square() * (3.0 - 2.0 * position)
    return change[None, None]


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=torch.float32, device=image.device).reshape(1, 3, 1, 1)
    return (image.float() * weights).sum(dim=1, keepdim=True)


def _window_means(planes: Tensor) -> Tensor:
    """Gaussian means around every pixel of (N, 1, h, w); the border's pixels are repeated."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float32, device=planes.device)
    kernel = torch.exp(-offsets.square() / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).reshape(1, 1, 1, -1)
    padded = F.pad(planes, (RADIUS,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.mT)
