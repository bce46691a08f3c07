"""Drawn portraits with exact region labels, a pure function of (seed, index, resolution)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.data.synthetic.backdrop import paint_backdrop
from neural_photo_editor.data.synthetic.casting import draw_scene
from neural_photo_editor.data.synthetic.features import paint_features
from neural_photo_editor.data.synthetic.hair import build_hair, paint_back_hair, paint_front_hair
from neural_photo_editor.data.synthetic.head import (
    face_outline,
    paint_ears,
    paint_head,
    paint_neck,
)
from neural_photo_editor.data.synthetic.raster import Canvas
from neural_photo_editor.data.synthetic.wardrobe import (
    paint_clothes,
    paint_glasses,
    paint_hat,
    paint_jewelry,
)

MIN_RESOLUTION = 32
MAX_RESOLUTION = 512


@dataclass(frozen=True)
class Portrait:
    """A drawn portrait.

    Attributes:
        photo: sRGB, uint8 (R, R, 3).
        labels: the region seen at each pixel's center, uint8 (R, R), ids 0..10.
    """

    photo: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def generate_portrait(seed: int, index: int, *, resolution: int) -> Portrait:
    """Paint portrait `index` of the endless series `seed`.

    The same `(seed, index)` shows the same person at every resolution.

    Args:
        seed: the series.
        index: the portrait's place in the series.
        resolution: side in pixels, 32..512.

    Raises:
        ValueError: the resolution is out of range.
    """
    if not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION:
        raise ValueError(
            f"resolution {resolution} is out of range; "
            f"choose {MIN_RESOLUTION}..{MAX_RESOLUTION} pixels"
        )
    scene = draw_scene(seed, index)
    canvas = Canvas.blank(resolution, pose=scene.pose)
    outline = face_outline(canvas.x, canvas.y, face=scene.face, yaw=scene.pose.yaw)
    hair = build_hair(canvas, scene=scene)
    # From back to front.
    paint_backdrop(canvas, scene=scene)
    paint_back_hair(canvas, hair, scene=scene)
    paint_neck(canvas, scene=scene, outline=outline)
    paint_clothes(canvas, scene=scene)
    paint_ears(canvas, scene=scene)
    paint_head(canvas, scene=scene, outline=outline)
    paint_features(canvas, scene=scene)
    paint_glasses(canvas, scene=scene)
    paint_front_hair(canvas, hair, scene=scene)
    paint_jewelry(canvas, scene=scene)
    paint_hat(canvas, scene=scene)
    return Portrait(photo=canvas.pixels(), labels=canvas.labels)
