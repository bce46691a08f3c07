"""The regions of faces in a photo, each face seen as large as the segmenter knows faces.

The segmenter knows portraits. In a photo that shows a face smaller, or elsewhere, the borders of
its regions become exact in the square aligned to it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.editing.face_finding import Alignment, Face, align_square, is_aligned
from neural_photo_editor.editing.segmentation import (
    LabelMap,
    region_mask,
    region_pixels,
    whole_square,
)
from neural_photo_editor.editing.windows import rows_and_columns, shift
from neural_photo_editor.imaging.geometry import Box, SquareCrop
from neural_photo_editor.imaging.masks import Mask, bounding_box

Segment = Callable[[SquareCrop], LabelMap]
"""A square of a photo -> the label map of its box, uint8 (height, width)."""


def label_photo(
    size: tuple[int, int], *, faces: Sequence[Face], segment: Segment, alignment: Alignment
) -> LabelMap:
    """Label a photo; around each face, what the square aligned to it shows.

    Args:
        size: (height, width) of the photo.
        faces: in the photo, the largest first; where their squares overlap the smaller one's
            labels are taken.
        segment: labels squares of the photo.
        alignment: where training portraits show the face.

    Returns:
        uint8, (H, W).
    """
    whole = whole_square(*size)
    labels = segment(whole)
    for face in faces:
        square = _best_square(size, face, alignment)
        if square != whole:
            _put_in(segment(square), square.box, labels, whole.box)
    return labels


def mark_regions(
    names: Sequence[str],
    size: tuple[int, int],
    *,
    face: Face | None,
    segment: Segment,
    alignment: Alignment,
) -> Mask:
    """Mark regions of a face in a photo; without a face, those of the whole photo.

    Where a region runs over the edge of the square around the face, larger squares add what is
    connected to it, and all of a region that the square lacks.

    Args:
        names: of the regions.
        face: the face they belong to, if any was found.
        size, segment, alignment: as in :func:`label_photo`.

    Returns:
        bool, (H, W); each region has pixels in it.

    Raises:
        RequestError: 422 when the photo lacks a region.
    """
    whole = whole_square(*size)
    square = whole if face is None else _best_square(size, face, alignment)
    first, labels = square, segment(square)
    while square != whole and (_absent(names, labels) or _runs_over(names, labels, square)):
        larger = _twice(square, whole)
        around = segment(larger)
        _put_in(labels, square.box, around, larger.box)
        square, labels = larger, around
    if absent := _absent(names, labels):
        found = ", ".join(name for name, count in region_pixels(labels).items() if count)
        raise RequestError(
            422,
            f"this photo shows no {' and no '.join(absent)}",
            field="regions",
            remedy=f"choose from those found: {found}; or send a mask",
        )
    mask = np.zeros(size, dtype=np.bool_)
    inner = _within(first.box, square.box)
    for name in names:
        mask[rows_and_columns(square.box)] |= _connected(region_mask(labels, [name]), inner)
    return mask


def _best_square(size: tuple[int, int], face: Face, alignment: Alignment) -> SquareCrop:
    """Return the whole photo's square if it shows the face as portraits do, else one that does."""
    whole = whole_square(*size)
    if is_aligned(face, whole, alignment=alignment):
        return whole
    return align_square(*size, face, alignment=alignment)


def _put_in(labels: LabelMap, box: Box, around: LabelMap, outer: Box) -> None:
    """Write the labels of a box into those of a box around it."""
    around[_within(box, outer)] = labels


def _within(box: Box, outer: Box) -> tuple[slice, slice]:
    """Return a box as an index of arrays that show a box around it."""
    return rows_and_columns(shift(box, rows=-outer[0], columns=-outer[1]))


def _connected(mask: Mask, inner: tuple[slice, slice]) -> Mask:
    """Drop the parts of a mask that reach nowhere into a window, unless it has none there."""
    if not mask[inner].any() or mask[inner].shape == mask.shape:
        return mask
    numbers, count = ndimage.label(mask, structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, dtype=np.bool_)
    kept[numbers[inner]] = True
    kept[0] = False
    connected: Mask = kept[numbers]
    return connected


def _absent(names: Sequence[str], labels: LabelMap) -> list[str]:
    return [name for name in names if not region_mask(labels, [name]).any()]


def _runs_over(names: Sequence[str], labels: LabelMap, square: SquareCrop) -> bool:
    """Say whether a region reaches an edge of a square's box that is not the photo's."""
    marked = bounding_box(region_mask(labels, names))
    edges, ends = (0, 0, *labels.shape), (0, 0, square.photo_height, square.photo_width)
    return marked is not None and any(
        reached == edge and place != end
        for reached, edge, place, end in zip(marked, edges, square.box, ends, strict=True)
    )


def _twice(square: SquareCrop, whole: SquareCrop) -> SquareCrop:
    """Return a square of twice the side around a square, or the whole photo's if that is as far."""
    side, half = 2 * square.side, square.side // 2
    if side >= whole.side:
        return whole
    return SquareCrop(
        square.top - half, square.left - half, side, square.photo_height, square.photo_width
    )
