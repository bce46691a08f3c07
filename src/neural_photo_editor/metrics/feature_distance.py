"""How far one set of images lies from another, by what a network sees in them.

Features come from any callable (images) -> (N, D); :func:`segmenter_features` makes one of a
segmenter, which knows portraits and needs no download. Distances by features of the Inception
network, see `inception_features`, are comparable with the literature's; those by other features
only with each other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neural_photo_editor.metrics.feature_statistics import FeatureStatistics
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

Features = Callable[[Tensor], Tensor]
"""(images float, (N, 3, H, W), in [-1, 1]) -> features, float, (N, D)."""

KERNEL_MIN_SAMPLES = 2


def segmenter_features(segmenter: SegmentationUNet) -> Features:
    """Return features of whole images: the segmenter's `feature_maps`, see `pool_features`.

    Args:
        segmenter: in evaluation mode, on any device.

    Returns:
        A callable: float, (N, 3, H, W), in [-1, 1], at the segmenter's resolution -> float64,
        (N, 2 C), on the CPU.
    """

    def features(images: Tensor) -> Tensor:
        with exact_convolutions():
            return pool_features(feature_maps(segmenter, images))

    return features


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Keep a GPU from TF32 in convolutions, so that features hardly depend on the device."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


@torch.no_grad()
def feature_maps(segmenter: SegmentationUNet, images: Tensor) -> Tensor:
    """Return the segmenter's penultimate channels: what its last 1x1 convolution reads.

    Args:
        segmenter: in evaluation mode.
        images: float, (N, 3, H, W), in [-1, 1], sides multiples of ``segmenter.image_multiple``.

    Returns:
        float, (N, C, H / stem_factor, W / stem_factor): C channels, made of all levels.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    handle = segmenter.head.register_forward_pre_hook(keep)
    try:
        segmenter(images)
    finally:
        handle.remove()
    (maps,) = seen
    return maps


def pool_features(maps: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Pool each channel to its mean and its standard deviation over the pixels.

    So what is there and how it is textured both count, and where it is does not.

    Args:
        maps: float, (N, C, H, W).
        mask: bool, (N, 1, H, W), at least one pixel each: the pixels to pool over; None = all.

    Returns:
        float64, (N, 2 C), on the CPU.

    Raises:
        ValueError: a mask is empty.
    """
    weight = torch.ones_like(maps[:, :1]) if mask is None else mask
    weight = weight.double()
    count = weight.sum((2, 3), keepdim=True)
    if (count == 0).any():
        raise ValueError("a mask is empty: there is nothing to pool over")
    weight = weight / count
    mean = (weight * maps).sum((2, 3), keepdim=True)
    variance = (weight * (maps - mean).square()).sum((2, 3))
    return torch.cat([mean.flatten(1), variance.sqrt()], dim=1).cpu()


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return `frechet_distance_of` sets of features.

    Args:
        first, second: float, (N_1, D) and (N_2, D), both N above D.

    Raises:
        ValueError: the shapes do not fit, or a set has no more samples than features.
    """
    first, second = _checked(first, second)
    statistics = FeatureStatistics(first.shape[1]), FeatureStatistics(first.shape[1])
    statistics[0].add(first)
    statistics[1].add(second)
    return frechet_distance_of(*statistics)


def frechet_distance_of(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Frechet distance of two Gaussians fitted to features (Heusel et al. 2017, Eq. 6).

    |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), with unbiased covariances. The trace of the
    root is that of (S_1^(1/2) S_2 S_1^(1/2))^(1/2), which is symmetric and has no complex rounding
    errors. The distance is biased upwards, the more the fewer the samples: compare only distances
    of equal sample sizes.

    Returns:
        The distance, at least 0.

    Raises:
        ValueError: one has no more samples than features.
    """
    difference = first.mean - second.mean
    least = len(difference) + 1
    if min(first.count, second.count) < least:
        raise ValueError(
            f"{first.count} and {second.count} samples of {len(difference)} features: a covariance "
            f"needs at least {least} of each; give more samples or take the kernel distance"
        )
    cov_1, cov_2 = first.covariance, second.covariance
    root_1 = _symmetric_root(cov_1)
    eigenvalues = torch.linalg.eigvalsh(root_1 @ cov_2 @ root_1)
    trace_of_root = eigenvalues.clamp_min(0.0).sqrt().sum()
    distance = difference @ difference + cov_1.trace() + cov_2.trace() - 2.0 * trace_of_root
    return max(0.0, float(distance))


def kernel_distance(first: Tensor, second: Tensor) -> float:
    """Kernel distance (KID, Binkowski et al. 2018): unbiased MMD^2, k(x, y) = (x . y / D + 1)^3.

    Its expectation does not depend on the number of samples and is 0 for sets of one
    distribution, so a value may be negative.

    Args:
        first, second: float, (N_1, D) and (N_2, D), at least two samples each.

    Raises:
        ValueError: the shapes do not fit, or a set has fewer than two samples.
    """
    first, second = _checked(first, second)
    n_1, n_2 = len(first), len(second)
    if min(n_1, n_2) < KERNEL_MIN_SAMPLES:
        raise ValueError(f"{n_1} and {n_2} samples: give at least {KERNEL_MIN_SAMPLES} of each")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    k_11, k_22 = kernel(first, first), kernel(second, second)
    within_1 = (k_11.sum() - k_11.trace()) / (n_1 * (n_1 - 1))
    within_2 = (k_22.sum() - k_22.trace()) / (n_2 * (n_2 - 1))
    return float(within_1 + within_2 - 2.0 * kernel(first, second).mean())


def _symmetric_root(matrix: Tensor) -> Tensor:
    """Return the root of a symmetric matrix without negative eigenvalues but for rounding."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * eigenvalues.clamp_min(0.0).sqrt()) @ vectors.T
    return root


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features of shapes {tuple(first.shape)} and {tuple(second.shape)}: "
            "give (N_1, D) and (N_2, D)"
        )
    return first.double(), second.double()
