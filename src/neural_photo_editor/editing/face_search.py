"""Searching a photo for faces that the segmenter would miss, or misdraw, in the whole photo.

A segmenter knows faces as large as in its training portraits. So a face found roughly, in a large
square, is looked at again in the square aligned to it; what does not look like a face there, was
none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.editing.face_finding import (
    MIN_SIDE,
    Alignment,
    Face,
    align_square,
    find_faces,
    is_aligned,
)
from neural_photo_editor.editing.segmentation import PhotoSegmenter, whole_square
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.geometry import SquareCrop

ELONGATED = 1.2
"""From this ratio of long to short side, squares of the short side are searched as well."""

MAX_SQUARES = 64
"""Squares searched at most at once; very long photos are not searched in more."""

MAX_FACES = 8
"""Faces looked at again; the largest come first."""

LOOKS = 3
"""Times a face found roughly is looked at in the square aligned to it."""

HEIGHT_RATIOS = (1.0, 0.7, 0.5, 1.4)
"""Heights tried in the first of these, in heights of the box found roughly."""

MAX_RATIO = 1.6
"""A look may correct a face's height by this factor; what differs more is something else."""

COMPLETE = 0.6
"""Least completeness of a face: one without its eyes (sunglasses) still passes."""

_LABEL_SIDE = 256
_BATCH = 16


@dataclass(frozen=True)
class FaceSearch:
    """Finds faces of any size in photos of any size.

    Attributes:
        segmenter: looks at squares of the photo.
        alignment: where the segmenter's training portraits show the face.
    """

    segmenter: PhotoSegmenter
    alignment: Alignment

    def __call__(self, photo: Photo, logits: Tensor | None = None) -> list[Face]:
        """Return the faces of a photo, uint8 (H, W, 3), the largest first.

        The whole photo is searched first, and a single portrait costs no more. A photo longer than
        wide is then searched in squares of its short side. If nothing is found, or only faces that
        fill less than half of such a square, so it is in squares of half the short side.

        Args:
            photo: uint8, (H, W, 3).
            logits: the segmenter's, of the photo's :func:`whole_square`, if they are known.
        """
        height, width = photo.shape[:2]
        whole = whole_square(height, width)
        if logits is None:
            logits = self.segmenter(photo, [whole])
        (seen,) = _faces_in(logits, [whole])
        if self._is_portrait(seen, whole):
            return seen
        short, long = sorted((height, width))
        faces: list[Face] = []
        for side in (short, short // 2):
            squares = overlapping_squares(height, width, side) if side < long / ELONGATED else []
            if side < MIN_SIDE or len(squares) > MAX_SQUARES:
                break
            seen += [face for found in self._faces(photo, squares) for face in found]
            rough = _distinct(seen)
            faces = _distinct([*faces, *self._look_again(photo, rough[:MAX_FACES])])
            if faces and faces[0].height > self.alignment.height * short / 2:
                break
            seen = []
        return faces

    def _is_portrait(self, faces: Sequence[Face], square: SquareCrop) -> bool:
        return (
            len(faces) == 1
            and faces[0].completeness >= COMPLETE
            and is_aligned(faces[0], square, alignment=self.alignment)
        )

    def _look_again(self, photo: Photo, faces: Sequence[Face]) -> list[Face]:
        """Measure faces in the squares aligned to them; those that are none there are left out.

        A face much too small for the segmenter is found with the wrong height, so several are
        tried; at the right one the segmenter sees a complete face of that height.
        """
        trials = [[_with_height(face, ratio) for ratio in HEIGHT_RATIOS] for face in faces]
        for _ in range(LOOKS):
            tried = [trial for group in trials for trial in group]
            looks = iter(self._faces(photo, [self._square(photo, trial) for trial in tried]))
            found = [
                [face for trial in group for face in _same_face(trial, next(looks))]
                for group in trials
            ]
            best = [max(group, key=lambda pair: pair[1])[0] for group in found if group]
            trials = [[face] for face in best]
        return _distinct([face for face in best if face.completeness >= COMPLETE])

    def _square(self, photo: Photo, face: Face) -> SquareCrop:
        height, width = photo.shape[:2]
        return align_square(height, width, face, alignment=self.alignment)

    def _faces(self, photo: Photo, squares: Sequence[SquareCrop]) -> list[list[Face]]:
        """Look at squares, and find the faces of each, in photo coordinates."""
        faces = []
        for begin in range(0, len(squares), _BATCH):
            batch = squares[begin : begin + _BATCH]
            faces += _faces_in(self.segmenter(photo, batch), batch)
        return faces


def overlapping_squares(height: int, width: int, side: int) -> list[SquareCrop]:
    """Cover a photo with squares that overlap by half or more; one square if it is long enough."""
    if side >= max(height, width):
        return [whole_square(height, width)]
    rows, columns = (
        np.linspace(0, length - side, 1 + math.ceil(2 * (length - side) / side)).round().astype(int)
        for length in (height, width)
    )
    return [
        SquareCrop(int(top), int(left), side, height, width) for top in rows for left in columns
    ]


def _faces_in(logits: Tensor, squares: Sequence[SquareCrop]) -> list[list[Face]]:
    """Find the faces of squares, in photo coordinates, from their logits, (N, 11, R, R)."""
    # Finer labels than the segmenter's pixels: a face may be a dozen of these.
    enlarged = F.interpolate(logits, size=(_LABEL_SIDE, _LABEL_SIDE), mode="bilinear")
    labels = _leaders(enlarged).numpy()
    return [
        [
            _placed(face, square, square.side / _LABEL_SIDE)
            for face in find_faces(_without_reflections(own, square))
        ]
        for own, square in zip(labels, squares, strict=True)
    ]


def _leaders(logits: Tensor) -> Tensor:
    """Return ``logits.argmax(dim=1)`` as uint8, in a tenth of its time on a CPU."""
    best = logits[:, 0].clone()
    labels = torch.zeros_like(best, dtype=torch.uint8)
    for region, plane in enumerate(logits.unbind(dim=1)):
        labels.masked_fill_(plane > best, region)
        torch.maximum(best, plane, out=best)
    return labels


def _without_reflections(labels: NDArray[np.uint8], square: SquareCrop) -> NDArray[np.uint8]:
    """Return a square's labels, (S, S), with nothing where it reaches beyond the photo."""
    top, left, bottom, right = square.visible(labels.shape[0])
    shown = np.zeros_like(labels)
    shown[top:bottom, left:right] = labels[top:bottom, left:right]
    return shown


def _placed(face: Face, square: SquareCrop, scale: float) -> Face:
    """Move a face of a square's labels into the photo."""
    top, left, bottom, right = (
        round(start + position * scale)
        for start, position in zip((square.top, square.left) * 2, face.box, strict=True)
    )
    low_row, low_column, high_row, high_column = square.box
    top, left = max(top, low_row), max(left, low_column)
    return replace(
        face,
        box=(
            top,
            left,
            max(min(bottom, high_row), top + 1),
            max(min(right, high_column), left + 1),
        ),
        center=(square.top + face.center[0] * scale, square.left + face.center[1] * scale),
        pixels=round(face.pixels * scale**2),
    )


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Drop faces that are in a larger one, as seen in another square; the largest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.pixels, reverse=True):
        if all(math.dist(face.center, other.center) > other.height / 2 for other in kept):
            kept.append(face)
    return kept


def _with_height(face: Face, ratio: float) -> Face:
    """Guess that a face is higher or lower than its box, the brows being where they are."""
    top, left, _, right = face.box
    height = max(1, round(ratio * face.height))
    center = (top + height / 2, face.center[1])
    return replace(face, box=(top, left, top + height, right), center=center)


def _same_face(trial: Face, look: Sequence[Face]) -> list[tuple[Face, float]]:
    """Return the faces of a look that may be the one tried, and how well they agree with it."""
    return [
        (face, face.completeness - 0.5 * abs(math.log(face.height / trial.height)))
        for face in look
        if math.dist(face.center, trial.center) <= trial.height / 2
        and 1 / MAX_RATIO <= face.height / trial.height <= MAX_RATIO
    ]
