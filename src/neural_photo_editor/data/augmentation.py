"""Changes of a training sample that its label map stays true to: crops, flips and colors.

Each is a function of (seed, epoch, sample id), so a resumed training, or one on another number of
processes, sees the same ones. Left and right are not told apart by region ids, so a flip needs no
exchange of labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.common.seeding import numpy_generator

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG.
# RGB -> YIQ: luma and two axes of chroma with the angle between them being the hue.
_RGB_TO_YIQ = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


class Frame(NamedTuple):
    """The square to cut out of a photo, in pixels, and whether it is mirrored."""

    top: int
    left: int
    size: int
    flip: bool


def center_frame(height: int, width: int, *, crop_size: int | None) -> Frame:
    """Return the central square of `crop_size` pixels, of the shorter side where that is None."""
    size = min(height, width) if crop_size is None else crop_size
    return Frame((height - size) // 2, (width - size) // 2, size, flip=False)


def random_frame(
    height: int,
    width: int,
    *,
    crop_size: int | None,
    horizontal_flip: bool,
    seed: int,
    epoch: int,
    sample_id: int,
) -> Frame:
    """Draw a square and, with `horizontal_flip`, a flip; without `crop_size` it is central."""
    frame = center_frame(height, width, crop_size=crop_size)
    if crop_size is None and not horizontal_flip:
        return frame
    generator = numpy_generator(seed, "augment", epoch, sample_id)
    flip = horizontal_flip and bool(generator.integers(2))
    if crop_size is None:
        return frame._replace(flip=flip)
    room = np.array([height - crop_size, width - crop_size])
    top, left = generator.integers(0, room + 1).tolist()
    return Frame(top, left, crop_size, flip)


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, as one affine map of the colors.

    The four changes are applied in that order with exact numbers between them; rounding and
    clipping to 0..255 come once, at the end.

    Args:
        brightness: colors are multiplied by a factor from 1 - brightness to 1 + brightness.
        contrast: the same for their distance from the photo's mean gray.
        saturation: the same for their distance from the pixel's own gray.
        hue: hues are turned by at most this part of the full circle, either way; 0.5 is all.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, largest = getattr(self, field.name), 0.5 if field.name == "hue" else 1.0
            if not 0.0 <= value <= largest:
                raise ValueError(
                    f"color_jitter.{field.name} is {value}; choose a number from 0 to {largest}"
                )

    def apply(self, images: Tensor, *, seed: int, epoch: int, sample_ids: Sequence[int]) -> Tensor:
        """Return photos, uint8 (N, 3, H, W), in colors drawn from (seed, epoch, sample id)."""
        changes = [self._draw(seed, epoch, sample_id) for sample_id in sample_ids]
        return change_colors(
            images,
            matrices=np.stack([matrix for matrix, _ in changes]),
            gray_shares=np.array([share for _, share in changes]),
        )

    def _draw(self, seed: int, epoch: int, sample_id: int) -> tuple[NDArray[np.float64], float]:
        # A generator of its own: switching colors on leaves crops and flips as they were.
        generator = numpy_generator(seed, "color", epoch, sample_id)
        brightness, contrast, saturation, turn = generator.uniform(-1.0, 1.0, 4)
        return color_map(
            brightness=1.0 + self.brightness * brightness,
            contrast=1.0 + self.contrast * contrast,
            saturation=1.0 + self.saturation * saturation,
            turn=self.hue * turn,
        )


def color_map(
    *, brightness: float, contrast: float, saturation: float, turn: float
) -> tuple[NDArray[np.float64], float]:
    """Return (A, k): a pixel x of a photo with mean luma m becomes A x + k m, the same k m in RGB.

    Saturation and hue leave gray as it is, so what contrast adds passes through them unchanged.

    Args:
        brightness, contrast, saturation: factors, 1 for no change.
        turn: of the hue in the plane of YIQ's chroma, in full circles.
    """
    saturate = saturation * np.eye(3) + (1.0 - saturation) * np.outer(np.ones(3), _LUMA)
    cosine, sine = np.cos(2.0 * np.pi * turn), np.sin(2.0 * np.pi * turn)
    rotate = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    turn_hue = np.linalg.solve(_RGB_TO_YIQ, rotate @ _RGB_TO_YIQ)
    return brightness * contrast * turn_hue @ saturate, brightness * (1.0 - contrast)


def change_colors(
    images: Tensor, *, matrices: NDArray[np.float64], gray_shares: NDArray[np.float64]
) -> Tensor:
    """Apply a `color_map` to each photo.

    Args:
        images: uint8 (N, 3, H, W).
        matrices: (N, 3, 3).
        gray_shares: (N,), the parts of the photo's mean luma that are added.

    Returns:
        uint8 (N, 3, H, W), rounded to the nearest and clipped.
    """
    pixels = images.flatten(2).float()
    luma = torch.from_numpy(_LUMA).float()
    gray = pixels.mean(2) @ luma * torch.from_numpy(gray_shares).float()
    changed = torch.baddbmm(gray[:, None, None], torch.from_numpy(matrices).float(), pixels)
    return changed.round_().clamp_(0, 255).to(torch.uint8).view_as(images)
