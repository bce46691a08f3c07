"""Random loss of a training photo's quality: gray, blurred, compressed. Label maps stay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.data.transforms import Pixels


@dataclass(frozen=True)
class QualityLoss:
    """Makes some photos gray, blurs some and compresses some, in that order.

    Each is drawn for itself from (seed, epoch, sample id).

    Args:
        gray: share of the samples that lose their colors.
        blur: share of the samples that are blurred.
        blur_px: largest standard deviation of the Gaussian, in pixels of the training image; the
            smallest is a fifth of it.
        jpeg: share of the samples that are compressed, with chroma at half the resolution.
        jpeg_quality: lowest quality, 1..95; the highest is 95.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    gray: float = 0.0
    blur: float = 0.0
    blur_px: float = 1.5
    jpeg: float = 0.0
    jpeg_quality: int = 40

    def __post_init__(self) -> None:
        limits = {"gray": 1.0, "blur": 1.0, "blur_px": 100.0, "jpeg": 1.0}
        for name, largest in limits.items():
            value = getattr(self, name)
            if not 0.0 <= value <= largest:
                raise ValueError(
                    f"quality_loss.{name} is {value}; choose a number from 0 to {largest:g}"
                )
        if not 1 <= self.jpeg_quality <= 95:
            raise ValueError(
                f"quality_loss.jpeg_quality is {self.jpeg_quality}; choose a number from 1 to 95"
            )

    def apply(self, images: Tensor, *, seed: int, epoch: int, sample_ids: Sequence[int]) -> Tensor:
        """Return photos, uint8 (N, 3, H, W), of the quality drawn for each."""
        changed = []
        for planes, sample_id in zip(images.numpy(), sample_ids, strict=True):
            photo = self._change(planes.transpose(1, 2, 0), seed, epoch, sample_id)
            changed.append(photo.transpose(2, 0, 1))
        return torch.from_numpy(np.stack(changed))

    def _change(self, photo: Pixels, seed: int, epoch: int, sample_id: int) -> Pixels:
        generator = numpy_generator(seed, "quality", epoch, sample_id)
        # All are drawn always: a share that is changed leaves the other choices as they were.
        is_gray, is_blurred, is_compressed = generator.random(3) < (self.gray, self.blur, self.jpeg)
        blur_px = self.blur_px * generator.uniform(0.2, 1.0)
        quality = int(generator.integers(self.jpeg_quality, 95, endpoint=True))
        if is_gray:
            photo = np.asarray(Image.fromarray(photo).convert("L").convert("RGB"))
        if is_blurred:
            blurred = Image.fromarray(photo).filter(ImageFilter.GaussianBlur(blur_px))
            photo = np.asarray(blurred)
        if is_compressed:
            photo = compress(photo, quality=quality)
        return photo


def compress(photo: Pixels, *, quality: int) -> Pixels:
    """Return what JPEG leaves of a photo, uint8 (H, W, 3), at a quality from 1 to 100."""
    encoded = simplejpeg.encode_jpeg(
        np.ascontiguousarray(photo), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    decoded: Pixels = simplejpeg.decode_jpeg(encoded, colorspace="RGB")
    return decoded
