"""Boxes as windows of arrays: the parts of large photos that an edit touches."""

from collections.abc import Iterator

from neural_photo_editor.imaging.geometry import Box


def rows_and_columns(box: Box) -> tuple[slice, slice]:
    """Return a box as an index of the first two axes of an array."""
    top, left, bottom, right = box
    return slice(top, bottom), slice(left, right)


def grow(box: Box, margin: int, *, within: Box) -> Box:
    """Return a box with ``margin`` more pixels on every side, as far as another box goes."""
    top, left, bottom, right = box
    return intersect((top - margin, left - margin, bottom + margin, right + margin), within)


def intersect(box: Box, other: Box) -> Box:
    return (
        max(box[0], other[0]),
        max(box[1], other[1]),
        min(box[2], other[2]),
        min(box[3], other[3]),
    )


def shift(box: Box, *, rows: int, columns: int) -> Box:
    """Return a box moved down by ``rows`` and right by ``columns``."""
    return box[0] + rows, box[1] + columns, box[2] + rows, box[3] + columns


def bands(box: Box, *, height: int) -> Iterator[Box]:
    """Cut a box into boxes of its width and at most ``height`` rows."""
    top, left, bottom, right = box
    for start in range(top, bottom, height):
        yield start, left, min(start + height, bottom), right
