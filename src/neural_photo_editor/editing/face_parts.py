"""The pixels of each face in a label map: connected, divided and united parts."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from neural_photo_editor.common.regions import NUM_REGIONS, region_id
from neural_photo_editor.imaging.geometry import Box
from neural_photo_editor.imaging.masks import Mask, bounding_box

MIN_PIXELS = 12
"""Smallest part, in pixels; fewer are specks."""

MAX_PARTS = 16
"""Largest connected parts looked at; more only appear where a segmenter found no face at all."""

MAX_GAP = 0.3
"""Widest gap between two parts of one face, as a share of the larger part's longer side."""

MAX_ASPECT = 1.4
"""Largest width of united parts, in their heights: two people side by side are wider."""

MAX_ELONGATION = 1.8
"""Largest height of united parts, in their widths: from forehead to chin it is 1.4."""

MIN_NOSE_DISTANCE = 0.6
"""Two noses at least this far apart, in square roots of the part's area, are of two faces."""

FEATURES = ("brow", "eye", "nose", "lip", "mouth")


def region_table(names: Sequence[str]) -> NDArray[np.bool_]:
    """Return for each region id whether its name is among these."""
    return np.isin(np.arange(NUM_REGIONS), [region_id(name) for name in names])


IS_FEATURE = region_table(FEATURES)
_IS_INNER = region_table((*FEATURES, "skin"))
_IS_NOSE = region_table(("nose",))
_IS_MOUTH = region_table(("lip", "mouth"))


def face_parts(labels: NDArray[np.uint8]) -> list[Mask]:
    """Return the pixels of each face of a label map, uint8 (H, W) of region ids.

    A face is a connected part of skin, brows, eyes, nose, lips and mouth. Parts that together
    have a face's proportions are one face (glasses, hair or a hand cut it); a part with noses far
    apart is several faces, cheek to cheek.
    """
    whole = _connected_parts(labels)
    return _merge_parts(
        [piece for part in whole for piece in _split_by_noses(part, labels)], labels
    )


def _connected_parts(labels: NDArray[np.uint8]) -> list[Mask]:
    """Return the connected parts of inner faces, the largest first."""
    numbers, _ = ndimage.label(_IS_INNER[labels], structure=np.ones((3, 3)))
    areas = np.bincount(numbers.reshape(-1))
    areas[0] = 0
    largest = np.argsort(-areas, kind="stable")[:MAX_PARTS]
    return [numbers == number for number in largest if areas[number] >= MIN_PIXELS]


def _split_by_noses(part: Mask, labels: NDArray[np.uint8]) -> list[Mask]:
    """Divide a part among its noses; a part with one, or with none, stays whole."""
    numbers, count = ndimage.label(part & _IS_NOSE[labels], structure=np.ones((3, 3)))
    if count < 2:
        return [part]
    areas = np.bincount(numbers.reshape(-1))[1:]
    centers = ndimage.center_of_mass(numbers > 0, numbers, np.arange(1, count + 1))
    apart = MIN_NOSE_DISTANCE * math.sqrt(int(part.sum()))
    noses: list[tuple[float, float]] = []
    for number in np.argsort(-areas, kind="stable"):
        far = all(math.dist(centers[number], nose) > apart for nose in noses)
        if far and areas[number] >= areas.max() / 4:
            noses.append(centers[number])
    points = np.argwhere(part)
    distance = np.hypot(*(points[:, None] - np.array(noses)).transpose(2, 0, 1))
    pieces = []
    for number in range(len(noses)):
        piece = np.zeros_like(part)
        piece[tuple(points[distance.argmin(axis=1) == number].T)] = True
        if piece.any():  # A bent nose's center may lie outside of it, and nearer to nothing.
            pieces.append(piece)
    return pieces


def _merge_parts(parts: list[Mask], labels: NDArray[np.uint8]) -> list[Mask]:
    """Unite parts that are one face, each with the largest that it fits."""
    faces: list[tuple[Mask, Box]] = []
    for part in sorted(parts, key=np.count_nonzero, reverse=True):
        box = bounding_box(part)
        assert box is not None  # Parts have pixels.
        for index, (face, other) in enumerate(faces):
            if _fit_together(other, box) and not _are_two_faces(face, part, labels):
                faces[index] = face | part, _union(box, other)
                break
        else:
            faces.append((part, box))
    return [face for face, _ in faces]


def _fit_together(face: Box, box: Box) -> bool:
    """Say whether the boxes of a face and a part are near, and one face would fill both."""
    gap = max(box[0] - face[2], face[0] - box[2], box[1] - face[3], face[1] - box[3], 0)
    top, left, bottom, right = _union(face, box)
    height, width = bottom - top, right - left
    near = gap <= MAX_GAP * max(face[2] - face[0], face[3] - face[1])
    return near and width <= MAX_ASPECT * height and height <= MAX_ELONGATION * width


def _union(box: Box, other: Box) -> Box:
    return (
        min(box[0], other[0]),
        min(box[1], other[1]),
        max(box[2], other[2]),
        max(box[3], other[3]),
    )


def _are_two_faces(face: Mask, part: Mask, labels: NDArray[np.uint8]) -> bool:
    return all(_has(one, table, labels) for table in (_IS_NOSE, _IS_MOUTH) for one in (part, face))


def _has(part: Mask, table: NDArray[np.bool_], labels: NDArray[np.uint8]) -> bool:
    return bool(table[labels[part]].any())
