"""Faces in label maps, and the square of a photo that shows a face as training portraits do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.common.regions import NUM_REGIONS, region_id
from neural_photo_editor.editing.face_parts import IS_FEATURE, face_parts
from neural_photo_editor.imaging.geometry import Box, SquareCrop, choose_square
from neural_photo_editor.imaging.masks import Mask, bounding_box

WORKING_SIDE = 512
"""Label maps are searched with at most this many pixels a side."""

MIN_SHARE = 1 / 50
"""Smallest face as a share of the largest one's area: what is far smaller is nobody's portrait."""

MIN_HEIGHT = 6
"""Lowest face, in pixels of the map searched; what is lower is a speck."""

MAX_WIDTH = 3
"""Widest face, in its heights: half again as much as one seen through a visor."""

REACH = 1.5
"""Heights of a face's box between it and the furthest mask that belongs to it, such as hair."""

SHIFT_TOLERANCE = 0.09
"""How far from its place a face may lie, as a share of the square's side (see docs/editing.md)."""

SCALE_TOLERANCE = 1.3
"""How much larger or smaller than in the training portraits a face may be."""

_FEATURE_AREAS = {("eye",): 0.012, ("nose",): 0.05, ("lip", "mouth"): 0.03}
"""Areas in squares of the box's height that make a face complete: a little below the medians of
CelebAMask-HQ (0.015, 0.070, 0.042) and of the drawn portraits (0.041, 0.063, 0.056)."""

MAX_SIDE = 1.6
"""Longest side of an aligned square in long sides of the photo: the rest is mere reflection."""

MIN_SIDE = 32
"""Shortest side of an aligned square, in photo pixels."""


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: from the brows to the chin, as wide as the face is there; in photo pixels. Foreheads
            are left out, for hair and hats hide them or not.
        center: (y, x), the point to align: halfway down the box, and halfway between the middle
            of the box and that of eyes, nose and mouth, which differ in a turned head.
        pixels: area of the face (skin and features), in photo pixels.
        completeness: how much of eyes, nose and mouth is seen for a face of this height, 0..1;
            low where the box holds something else too, such as a neck taken for skin.
    """

    box: Box
    center: tuple[float, float]
    pixels: int
    completeness: float

    @property
    def height(self) -> int:
        """Height of :attr:`box`."""
        return self.box[2] - self.box[0]


@dataclass(frozen=True)
class Alignment:
    """Where the training portraits show the face, as shares of the square's side.

    The defaults are the means of the drawn portraits; those of CelebAMask-HQ are 0.50, 0.66, 0.54.

    Attributes:
        center_x, center_y: place of :attr:`Face.center`, from the left and the top.
        height: height of :attr:`Face.box`.

    Raises:
        ValueError: a value is out of range.
    """

    center_x: float = 0.50
    center_y: float = 0.65
    height: float = 0.49

    def __post_init__(self) -> None:
        for name in ("center_x", "center_y", "height"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; choose between 0 and 1")


def find_faces(labels: NDArray[np.uint8]) -> list[Face]:
    """Find the faces in a label map, uint8 (H, W) of region ids; the largest first.

    A face is a part of :func:`face_parts` with at least one feature: skin alone may be a shoulder.
    """
    stride = max(1, math.ceil(max(labels.shape) / WORKING_SIDE))
    small = labels[::stride, ::stride]
    faces = [_to_face(part, small) for part in face_parts(small)]
    found = [_in_photo(face, stride, labels.shape) for face in faces if face is not None]
    found.sort(key=lambda face: face.pixels, reverse=True)
    return [face for face in found if face.pixels >= MIN_SHARE * found[0].pixels]


def _to_face(part: Mask, labels: NDArray[np.uint8]) -> Face | None:
    """Measure a part; None if it has no feature, or the shape of no face."""
    features = bounding_box(part & IS_FEATURE[labels])
    if features is None:
        return None
    below = bounding_box(part[features[0] :])
    assert below is not None  # The features are there.
    top, bottom = features[0], features[0] + below[2]
    _, left, _, right = below
    if bottom - top < MIN_HEIGHT or right - left > MAX_WIDTH * (bottom - top):
        return None
    counts = np.bincount(labels[part], minlength=NUM_REGIONS)
    return Face(
        box=(top, left, bottom, right),
        center=((top + bottom) / 2, (left + right + features[1] + features[3]) / 4),
        pixels=int(counts.sum()),
        completeness=_completeness(counts, bottom - top),
    )


def _in_photo(face: Face, stride: int, shape: tuple[int, ...]) -> Face:
    """Return a face of a map with every ``stride``-th pixel of a photo in pixels of the photo."""
    top, left, bottom, right = (edge * stride for edge in face.box)
    return replace(
        face,
        box=(top, left, min(bottom, shape[0]), min(right, shape[1])),
        center=(face.center[0] * stride, face.center[1] * stride),
        pixels=face.pixels * stride**2,
    )


def _completeness(counts: NDArray[np.int64], height: int) -> float:
    shares = [
        min(1.0, float(counts[[region_id(name) for name in names]].sum()) / (area * height**2))
        for names, area in _FEATURE_AREAS.items()
    ]
    return sum(shares) / len(shares)


def choose_face(faces: Sequence[Face], mask: Mask | None = None) -> Face | None:
    """Choose the face an edit is about: the one nearest to most of the mask.

    Nearness is the distance to a face's box in heights of that box, so that hair, hats and necks
    count for the face they belong to. Without a mask it is the first, the largest.

    Args:
        faces: as :func:`find_faces` returns them.
        mask: bool, (H, W), of the whole photo.

    Returns:
        None when there is no face, or none within REACH of the mask.
    """
    box = None if mask is None else bounding_box(mask)
    if not faces or mask is None or box is None:
        return faces[0] if faces else None
    stride = math.ceil(max(box[2] - box[0], box[3] - box[1]) / 64)
    points = np.argwhere(mask[box[0] : box[2] : stride, box[1] : box[3] : stride]) * stride
    if not len(points):  # A line so thin that the samples miss it.
        points = np.array([[(box[2] - box[0]) // 2, (box[3] - box[1]) // 2]])
    y, x = (points + box[:2]).T[..., None]
    top, left, bottom, right = np.array([face.box for face in faces]).T
    above_below = np.maximum(np.maximum(top - y, y - bottom), 0)
    beside = np.maximum(np.maximum(left - x, x - right), 0)
    distance = np.hypot(above_below, beside) / (bottom - top)
    nearest = distance.argmin(axis=1)[distance.min(axis=1) <= REACH]
    if not len(nearest):
        return None
    return faces[int(np.bincount(nearest, minlength=len(faces)).argmax())]


def choose_work_square(
    height: int,
    width: int,
    face: Face | None,
    *,
    alignment: Alignment,
    must_contain: Box | None = None,
) -> SquareCrop:
    """Choose the square an edit works on: aligned to the face where that matters, else plain.

    A portrait that :func:`choose_square` frames like the training ones keeps that square.

    Args:
        height, width: size of the photo, in pixels.
        face: the face the edit is about, if any.
        alignment: where training portraits show the face.
        must_contain: the mask's bounding box.

    Raises:
        ValueError: the box is empty or reaches outside the photo.
    """
    plain = choose_square(height, width, must_contain=must_contain)
    if face is None or is_aligned(face, plain, alignment=alignment):
        return plain
    return align_square(height, width, face, alignment=alignment, must_contain=must_contain)


def is_aligned(face: Face, crop: SquareCrop, *, alignment: Alignment) -> bool:
    """Whether a square shows a face about where and as large as training portraits do."""
    y, x = (
        (c - start) / crop.side for c, start in zip(face.center, (crop.top, crop.left), strict=True)
    )
    scale = face.height / crop.side / alignment.height
    return (
        max(abs(y - alignment.center_y), abs(x - alignment.center_x)) <= SHIFT_TOLERANCE
        and 1 / SCALE_TOLERANCE <= scale <= SCALE_TOLERANCE
    )


def align_square(
    height: int,
    width: int,
    face: Face,
    *,
    alignment: Alignment,
    must_contain: Box | None = None,
) -> SquareCrop:
    """Return the square in which a face lies as in the training portraits.

    For what it must contain, with a margin of 1/16 of its side, the square is first moved by up
    to SHIFT_TOLERANCE of its side, then grown, the face staying at its place in the square. Where
    it would have to grow beyond the plain square of the photo, it is that one instead.

    Args, Raises: as :func:`choose_work_square`.
    """
    plain = choose_square(height, width, must_contain=must_contain)
    side = face.height / alignment.height
    side = min(max(side, MIN_SIDE), MAX_SIDE * max(height, width))
    y, x = face.center
    rows, columns = (y, y), (x, x)
    if must_contain:
        top, left, bottom, right = must_contain
        margin = side / 16
        rows = max(top - margin, 0), min(bottom + margin, height)
        columns = max(left - margin, 0), min(right + margin, width)
        needed = max(
            _side_to_contain(rows, y, alignment.center_y),
            _side_to_contain(columns, x, alignment.center_x),
        )
        if needed > max(side, plain.side):
            return plain
        side = max(side, needed)
    whole = math.ceil(side)
    return SquareCrop(
        _start(rows, y, alignment.center_y, whole),
        _start(columns, x, alignment.center_x, whole),
        whole,
        height,
        width,
    )


def _side_to_contain(span: tuple[float, float], center: float, share: float) -> float:
    """Return the smallest side with the span inside and the center about ``share`` of it in."""
    low, high = span
    before = (center - low) / min(share + SHIFT_TOLERANCE, 1.0)
    after = (high - center) / min(1.0 - share + SHIFT_TOLERANCE, 1.0)
    return max(before, after, high - low)


def _start(span: tuple[float, float], center: float, share: float, side: int) -> int:
    """Return the start of a square nearest to ``share`` that contains the span."""
    start = max(round(center - share * side), math.ceil(span[1]) - side)
    return min(start, math.floor(span[0]))
