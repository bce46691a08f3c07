"""Random rotation, size and place of a training sample, photo and label map alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.common.seeding import numpy_generator


class Placement(NamedTuple):
    """A similarity transform of a square picture about its center.

    Attributes:
        angle: of the turn, counterclockwise, in radians.
        factor: of the size; above 1 the picture's content grows.
        right, down: shift of the content, as shares of the side.
    """

    angle: float
    factor: float
    right: float
    down: float


@dataclass(frozen=True)
class RandomPlacement:
    """Draws a placement for each sample from (seed, epoch, sample id) and applies it.

    What comes into view from beyond the border is the picture mirrored at it, in the photo and in
    the label map: every pixel has a true label, and none needs to be left out of a loss.

    Args:
        rotation: largest turn, either way, in degrees.
        scale: the size is multiplied by a factor from 1 / (1 + scale) to 1 + scale, whose
            logarithm is uniform.
        shift: largest shift along each axis, either way, as a share of the side.

    Raises:
        ValueError: a number is out of range; the message names it.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, largest in {"rotation": 180.0, "scale": 1.0, "shift": 0.5}.items():
            value = getattr(self, name)
            if not 0.0 <= value <= largest:
                raise ValueError(
                    f"placement.{name} is {value}; choose a number from 0 to {largest:g}"
                )

    def apply(
        self, images: Tensor, labels: Tensor, *, seed: int, epoch: int, sample_ids: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return photos and label maps, each pair placed anew.

        Args:
            images: uint8 (N, 3, S, S).
            labels: uint8 (N, S, S).

        Returns:
            uint8 (N, 3, S, S) and uint8 (N, S, S).
        """
        # One by one: what a sample becomes must not depend on its batch.
        placed = [
            place(image, label_map, self._draw(seed, epoch, sample_id))
            for image, label_map, sample_id in zip(images, labels, sample_ids, strict=True)
        ]
        photos, label_maps = zip(*placed, strict=True)
        return torch.stack(photos), torch.stack(label_maps)

    def _draw(self, seed: int, epoch: int, sample_id: int) -> Placement:
        # A generator of its own: switching this on leaves crops, flips and colors as they were.
        generator = numpy_generator(seed, "placement", epoch, sample_id)
        angle, size, right, down = generator.uniform(-1.0, 1.0, 4).tolist()
        return Placement(
            angle=math.radians(self.rotation * angle),
            factor=(1.0 + self.scale) ** size,
            right=self.shift * right,
            down=self.shift * down,
        )


def place(image: Tensor, labels: Tensor, placement: Placement) -> tuple[Tensor, Tensor]:
    """Apply one placement to a photo, bilinearly, and to its label map, by nearest neighbor.

    Args:
        image: uint8 (3, S, S).
        labels: uint8 (S, S).

    Returns:
        uint8 (3, S, S), rounded to the nearest, and uint8 (S, S), with no ids that were not there.
    """
    grid = torch.from_numpy(_sources(labels.shape[-1], placement))[None]
    # float32 holds every uint8 exactly.
    photo = F.grid_sample(
        image[None].float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    label_map = F.grid_sample(
        labels[None, None].float(),
        grid,
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    )
    # Of interpolated bytes none is below 0 or above 255.
    return photo[0].round_().to(torch.uint8), label_map[0, 0].to(torch.uint8)


def _sources(
    side: int, placement: Placement
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Return where each pixel comes from: float32 (S, S, 2), (x, y) in -1..1 from edge to edge."""
    centers = (2.0 * np.arange(side) + 1.0) / side - 1.0
    x = centers[None, :] - 2.0 * placement.right
    y = centers[:, None] - 2.0 * placement.down
    # The way back: turned clockwise (y points down) and divided by the factor.
    cosine = math.cos(placement.angle) / placement.factor
    sine = math.sin(placement.angle) / placement.factor
    sources = np.empty((side, side, 2), dtype=np.float32)
    sources[..., 0] = cosine * x - sine * y
    sources[..., 1] = sine * x + cosine * y
    return sources
