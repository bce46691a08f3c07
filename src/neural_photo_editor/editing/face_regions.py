"""Faces and the regions a request names, seen large enough for the segmenter.

The segmenter knows portraits. In a photo that shows a face much smaller, it looks a second time, at
the square around the face: the face's place and the borders of its regions become exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.editing.face_finding import (
    Alignment,
    Face,
    align_square,
    choose_face,
    find_faces,
)
from neural_photo_editor.editing.segmentation import LabelMap, region_mask, region_pixels
from neural_photo_editor.editing.windows import intersect, rows_and_columns, shift
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.geometry import Box
from neural_photo_editor.imaging.masks import Mask, bounding_box

Segment = Callable[[Photo], LabelMap]
"""A photo, uint8 (H, W, 3) -> its label map, uint8 (H, W)."""

SMALL_FACE = 2 / 3
"""A face lower than this share of its height in training portraits is looked at again."""

MIN_FACE = 1 / 20
"""What is lower than this share of the photo's long side is a speck: 6 pixels to the segmenter."""

MAX_LOOKS = 2
"""Further looks at a small face: the first may still have been at a square of the wrong size."""

SAME_HEIGHT = 1.1
"""A face whose height changes by less than this factor is not looked at once more."""


def find_edited_face(
    photo: Photo,
    labels: LabelMap,
    *,
    mask: Mask | None,
    segment: Segment,
    alignment: Alignment,
) -> Face | None:
    """Find the face that an edit is about, see :func:`choose_face`; a small one in two looks.

    Args:
        photo: uint8, (H, W, 3).
        labels: its label map, uint8, (H, W).
        mask: bool, (H, W); None: the largest face.
        segment: labels the second look.
        alignment: where training portraits show the face.
    """
    height, width = labels.shape
    least = MIN_FACE * max(height, width)
    face = choose_face([face for face in find_faces(labels) if face.height >= least], mask)
    if face is None or not _is_small(face, photo, alignment):
        return face
    for _ in range(MAX_LOOKS):
        before: Face = face
        box = align_square(height, width, face, alignment=alignment).box
        seen = [_shifted(other, box) for other in find_faces(segment(_part(photo, box)))]
        face = max(seen, key=lambda other: _common_area(other.box, before.box), default=before)
        if 1 / SAME_HEIGHT <= face.height / before.height <= SAME_HEIGHT:
            break
    return face


def mark_regions(
    names: Sequence[str],
    photo: Photo,
    labels: LabelMap,
    *,
    face: Face | None,
    segment: Segment,
    alignment: Alignment,
) -> Mask:
    """Mark face regions in a photo; those of a small face alone, seen in the square around it.

    Where a region runs over that square's edge or is absent from it, the square grows.

    Args:
        names: of the regions.
        photo, labels, segment, alignment: as in :func:`find_edited_face`.
        face: the face they belong to, if any was found.

    Returns:
        bool, (H, W); each region has pixels in it.

    Raises:
        RequestError: 422 when the photo lacks a region.
    """
    height, width = labels.shape
    if face is not None and _is_small(face, photo, alignment):
        box = align_square(height, width, face, alignment=alignment).box
        while box != (0, 0, height, width):
            seen = segment(_part(photo, box))
            pixels = region_pixels(seen)
            mask = np.zeros(labels.shape, dtype=np.bool_)
            mask[rows_and_columns(box)] = region_mask(seen, names)
            if all(pixels[name] for name in names) and not _runs_over(mask, box):
                return mask
            box = _twice(box, height, width)
    pixels = region_pixels(labels)
    absent = [name for name in names if not pixels[name]]
    if absent:
        found = ", ".join(name for name, count in pixels.items() if count)
        raise RequestError(
            422,
            f"this photo shows no {' and no '.join(absent)}",
            field="regions",
            remedy=f"choose from those found: {found}; or send a mask",
        )
    return region_mask(labels, names)


def _is_small(face: Face, photo: Photo, alignment: Alignment) -> bool:
    height, width = photo.shape[:2]
    return bool(face.height < SMALL_FACE * alignment.height * max(height, width))


def _part(photo: Photo, box: Box) -> Photo:
    return np.ascontiguousarray(photo[rows_and_columns(box)])


def _shifted(face: Face, box: Box) -> Face:
    """Return a face found in a part of the photo in pixels of the photo."""
    top, left = box[:2]
    center = (face.center[0] + top, face.center[1] + left)
    return replace(face, box=shift(face.box, rows=top, columns=left), center=center)


def _common_area(box: Box, other: Box) -> int:
    top, left, bottom, right = intersect(box, other)
    return max(bottom - top, 0) * max(right - left, 0)


def _runs_over(mask: Mask, box: Box) -> bool:
    """Say whether a mask inside a box reaches an edge of it that is not the photo's."""
    marked = bounding_box(mask)
    ends = (0, 0, *mask.shape)
    return marked is not None and any(
        edge == limit and limit != end for edge, limit, end in zip(marked, box, ends, strict=True)
    )


def _twice(box: Box, height: int, width: int) -> Box:
    """Return a box of twice the sides around a box, as far as the photo goes."""
    top, left, bottom, right = box
    rows, columns = (bottom - top + 1) // 2, (right - left + 1) // 2
    doubled = (top - rows, left - columns, bottom + rows, right + columns)
    return intersect(doubled, (0, 0, height, width))
