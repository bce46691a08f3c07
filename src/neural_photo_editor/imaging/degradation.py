"""How a low-resolution training input is made from a photo."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.imaging.jpeg import jpeg_round_trip

_FILTERS = ("area", "bilinear", "bicubic")
_PROBABILITIES = ("blur_probability", "anisotropic", "gaussian_noise", "gray_noise")
_LOWEST = {"blur_sigma": 0.05, "resize": 0.05, "noise_sigma": 0.0, "shot_noise": 0.0, "jpeg": 1.0}


def bicubic_downscale(image: Tensor, scale: int) -> Tensor:
    """Shrink by an integer factor with antialiased bicubic interpolation (as Pillow's BICUBIC).

    Args:
        image: float, (N, 3, H, W), in [-1, 1]; H and W divisible by ``scale``.
        scale: the factor, at least 1.

    Returns:
        float, (N, 3, H / scale, W / scale), clipped to [-1, 1] since bicubic overshoots.

    Raises:
        ValueError: a side is not divisible by the factor.
    """
    return _resize(image, _low_size(image, scale), "bicubic")


def bicubic_upscale(image: Tensor, scale: int) -> Tensor:
    """Enlarge by an integer factor with bicubic interpolation: what an upscaler must beat.

    Args:
        image: float, (N, 3, H, W), in [-1, 1].
        scale: the factor, at least 1.

    Returns:
        float, (N, 3, scale * H, scale * W), clipped to [-1, 1].
    """
    return F.interpolate(image, scale_factor=float(scale), mode="bicubic").clamp(-1.0, 1.0)


@dataclass(frozen=True)
class DegradationStage:
    """What happens to a photo once: blur, resize, noise, JPEG (Real-ESRGAN, section 3.1).

    Pairs are the lowest and the highest value drawn.

    Args:
        blur_probability: share of the photos that are blurred.
        blur_sigma: standard deviations of the Gaussian, in pixels.
        anisotropic: share of the blurs with two different deviations along turned axes.
        resize: factors of the sides; not read in the last stage, which ends at the low resolution.
        gaussian_noise: share of the photos with noise of one strength everywhere; the others have
            shot noise.
        noise_sigma: standard deviation of the former, in levels of 0..255.
        shot_noise: standard deviation of the latter, in roots of the level. 1 is a sensor that
            counts one photon per level; the normal distribution stands in for Poisson's.
        gray_noise: share of the photos whose noise is the same in R, G and B.
        jpeg: qualities, 1 to 100.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    blur_probability: float
    blur_sigma: Sequence[float]
    anisotropic: float
    resize: Sequence[float]
    gaussian_noise: float
    noise_sigma: Sequence[float]
    shot_noise: Sequence[float]
    gray_noise: float
    jpeg: Sequence[int]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _PROBABILITIES:
                if not 0.0 <= value <= 1.0:
                    raise ValueError(f"degradation: {field.name} is {value}; give a share, 0 to 1")
                continue
            low, high = value
            lowest, highest = _LOWEST[field.name], 100 if field.name == "jpeg" else math.inf
            if not lowest <= low <= high <= highest:
                raise ValueError(
                    f"degradation: {field.name} is [{low}, {high}]; give the lowest and the "
                    f"highest value, from {lowest:g} to {highest:g}"
                )

    def apply(
        self, image: Tensor, *, generator: np.random.Generator, size: tuple[int, int] | None
    ) -> Tensor:
        """Degrade one photo, float (1, 3, H, W) in [-1, 1], to a size, or by a random factor."""
        # Every number is drawn whether it is used or not: changing one setting changes nothing
        # else.
        chance = generator.random(4)
        level = generator.random(6)
        mode = _FILTERS[int(generator.integers(len(_FILTERS)))]
        if chance[0] < self.blur_probability:
            sigma_x, sigma_y = (_between(self.blur_sigma, part) for part in level[:2])
            if chance[1] >= self.anisotropic:
                sigma_y = sigma_x
            image = _blur(image, gaussian_kernel(sigma_x, sigma_y, angle=math.pi * level[2]))
        if size is None:
            low, high = self.resize
            factor = low * (high / low) ** level[3]
            size = _scaled(image, factor)
        image = _resize(image, size, mode)
        channels = 1 if chance[3] < self.gray_noise else 3
        noise = generator.standard_normal((1, channels, *size), dtype=np.float32)
        if chance[2] < self.gaussian_noise:
            sigma = torch.full_like(image, _between(self.noise_sigma, level[4]))
        else:
            roots = image.add(1.0).mul(127.5).clamp(min=0.0).sqrt()
            sigma = _between(self.shot_noise, level[4]) * roots
        noisy = image + sigma / 127.5 * torch.from_numpy(noise).to(image)
        return jpeg_round_trip(noisy, quality=round(_between(self.jpeg, level[5])))


@dataclass(frozen=True)
class Degradation:
    """Makes low-resolution inputs; without stages by bicubic interpolation alone.

    Real-ESRGAN (Wang et al. 2021), Figure 2, with these differences: Gaussian kernels alone (no
    generalized ones, no sinc), factors of resizing are log-uniform, and the last stage goes to the
    low resolution in one step, so that its noise and its JPEG are those of the pixels the network
    sees.

    Args:
        stages: one after the other; two are the paper's second-order model.
    """

    stages: Sequence[DegradationStage] = ()

    def shrink(
        self, images: Tensor, scale: int, *, seed: int, epoch: int, sample_ids: Sequence[int]
    ) -> Tensor:
        """Return what a network is to enlarge.

        Every choice is a function of (seed, epoch, sample id), and each photo is degraded by
        itself: neither the batch nor the number of processes changes a bit of it.

        Args:
            images: float, (N, 3, H, W), in [-1, 1]; H and W divisible by ``scale``.
            scale: the factor.
            seed, epoch, sample_ids: of the training; N ids.

        Returns:
            float, (N, 3, H / scale, W / scale), in [-1, 1], on the device of the images.

        Raises:
            ValueError: a side is not divisible by the factor.
        """
        if not self.stages:
            return bicubic_downscale(images, scale)
        size = _low_size(images, scale)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return torch.cat(
                [
                    self._shrink_one(
                        image, size, numpy_generator(seed, "degradation", epoch, int(sample_id))
                    )
                    for image, sample_id in zip(torch.split(images, 1), sample_ids, strict=True)
                ]
            )

    def _shrink_one(
        self, image: Tensor, size: tuple[int, int], generator: np.random.Generator
    ) -> Tensor:
        *earlier, last = self.stages
        for stage in earlier:
            image = stage.apply(image, generator=generator, size=None)
        return last.apply(image, generator=generator, size=size)


BICUBIC = Degradation()
"""Bicubic interpolation alone, what papers measure with."""


def gaussian_kernel(sigma_x: float, sigma_y: float, *, angle: float) -> NDArray[np.float32]:
    """Return a Gaussian's weights at whole pixels, up to 3 standard deviations; their sum is 1.

    Args:
        sigma_x, sigma_y: standard deviations along the kernel's own axes, in pixels.
        angle: of the first of them to the rows, in radians.

    Returns:
        float32, (S, S), S odd.
    """
    radius = math.ceil(3.0 * max(sigma_x, sigma_y))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along = (np.cos(angle) * x + np.sin(angle) * y) / sigma_x
    across = (np.cos(angle) * y - np.sin(angle) * x) / sigma_y
    weights = np.exp(-0.5 * (along**2 + across**2))
    kernel: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return kernel


def _blur(image: Tensor, kernel: NDArray[np.float32]) -> Tensor:
    radius = len(kernel) // 2
    planes = F.pad(image, (radius,) * 4, mode="replicate").transpose(0, 1)
    weights = torch.from_numpy(kernel).to(image)[None, None]
    return F.conv2d(planes, weights).transpose(0, 1)


def _resize(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    if mode == "area":
        return F.interpolate(image, size=size, mode=mode)
    resized = F.interpolate(image, size=size, mode=mode, antialias=True, align_corners=False)
    return resized.clamp(-1.0, 1.0)


def _scaled(image: Tensor, factor: float) -> tuple[int, int]:
    height, width = image.shape[-2:]
    return max(1, round(height * factor)), max(1, round(width * factor))


def _low_size(image: Tensor, scale: int) -> tuple[int, int]:
    height, width = image.shape[-2:]
    if scale < 1 or height % scale or width % scale:
        raise ValueError(
            f"cannot shrink {height}x{width} by {scale}; crop to a multiple of {scale} first"
        )
    return height // scale, width // scale


def _between(bounds: Sequence[float], part: float) -> float:
    low, high = bounds
    return float(low + (high - low) * part)
