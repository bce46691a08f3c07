"""Searching photos for faces, with a segmenter that knows faces of one size alone.

It reads regions from colors: red is the face, with green the nose, with blue the lips, with both
eyes and brows. Like a trained one it fails at other sizes: it sees no features in a small face.
"""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.face_finding import Alignment, Face, align_square, find_faces
from neural_photo_editor.editing.face_search import FaceSearch, overlapping_squares
from neural_photo_editor.editing.segmentation import PhotoSegmenter, whole_square
from neural_photo_editor.imaging.compositing import Photo

RESOLUTION = 64
SMALLEST_NOSE = 24
SKIN, EYE, NOSE, LIP, BROW, MOUTH = map(region_id, ("skin", "eye", "nose", "lip", "brow", "mouth"))
ALIGNMENT = Alignment()


class PortraitSegmenter:
    """Labels read from colors; features vanish where the nose is too small, as from afar."""

    def __init__(self) -> None:
        self.num_squares = 0

    def __call__(self, squares: Tensor) -> Tensor:
        self.num_squares += len(squares)
        red, green, blue = (squares > 0).unbind(1)
        labels = torch.zeros(red.shape, dtype=torch.int64)
        labels[red] = SKIN
        labels[red & green] = NOSE
        labels[red & blue] = LIP
        labels[red & green & blue] = EYE
        for one in labels:
            if int((one == NOSE).sum()) < SMALLEST_NOSE:
                one[(one == NOSE) | (one == LIP)] = SKIN
        return F.one_hot(labels, 11).permute(0, 3, 1, 2).float() * 10


def _paint(labels: NDArray[np.uint8]) -> Photo:
    channels = ([SKIN, NOSE, LIP, MOUTH, EYE, BROW], [NOSE, EYE, BROW], [LIP, MOUTH, EYE, BROW])
    return np.stack([np.isin(labels, regions) for regions in channels], axis=2) * np.uint8(255)


def _scene(height: int, width: int, *people: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the labels of a photo with portraits of (side, top, left) in it."""
    labels = np.zeros((height, width), dtype=np.uint8)
    for index, (side, top, left) in enumerate(people):
        part = labels[top : top + side, left : left + side]
        part[:] = generate_portrait(4, index, resolution=side).labels
    return labels


def _search(segmenter: PortraitSegmenter) -> FaceSearch:
    return FaceSearch(PhotoSegmenter(segmenter, RESOLUTION, torch.device("cpu")), ALIGNMENT)


def _assert_same(face: Face, expected: Face) -> None:
    side = expected.height / ALIGNMENT.height
    assert math.dist(face.center, expected.center) < 0.05 * side
    assert face.height == pytest.approx(expected.height, rel=0.15)


def test_a_portrait_costs_one_square() -> None:
    labels = generate_portrait(4, 0, resolution=128).labels
    segmenter = PortraitSegmenter()
    (face,) = _search(segmenter)(_paint(labels))
    _assert_same(face, find_faces(labels)[0])
    assert segmenter.num_squares == 1


@pytest.mark.parametrize("side", [128, 50])
def test_the_whole_photo_is_not_looked_at_twice(side: int) -> None:
    photo, segmenter = _paint(_scene(128, 128, (side, 0, 0))), PortraitSegmenter()
    search = _search(segmenter)
    expected, calls = search(photo), segmenter.num_squares
    logits = search.segmenter(photo, [whole_square(128, 128)])
    segmenter.num_squares = 0
    assert search(photo, logits) == expected != []
    assert segmenter.num_squares == calls - 1


@pytest.mark.parametrize("size", [(300, 300), (300, 480), (600, 200)])
@pytest.mark.parametrize("side", [200, 100, 70])
def test_small_faces_are_found_and_measured(size: tuple[int, int], side: int) -> None:
    labels = _scene(*size, (side, size[0] - side - 10, 0))
    (face,) = _search(PortraitSegmenter())(_paint(labels))
    _assert_same(face, find_faces(labels)[0])


def test_several_people_are_found() -> None:
    labels = _scene(300, 700, (200, 100, 10), (190, 50, 250), (210, 60, 480))
    found = _search(PortraitSegmenter())(_paint(labels))
    expected = find_faces(labels)
    assert len(found) == len(expected) == 3
    for face, true in zip(
        *(sorted(faces, key=lambda face: face.center[1]) for faces in (found, expected)),
        strict=True,
    ):
        _assert_same(face, true)


@pytest.mark.parametrize("size", [(1, 1), (5, 4000), (40, 30), (300, 500)])
def test_photos_without_faces_have_none(size: tuple[int, int]) -> None:
    assert _search(PortraitSegmenter())(np.zeros((*size, 3), dtype=np.uint8)) == []


def test_skin_without_a_nose_is_no_face() -> None:
    labels = np.zeros((300, 300), dtype=np.uint8)
    labels[100:200, 100:180] = SKIN
    labels[120:125, 110:170] = EYE
    assert _search(PortraitSegmenter())(_paint(labels)) == []


@pytest.mark.parametrize(
    ("height", "width", "side"), [(100, 100, 100), (90, 300, 90), (77, 200, 31)]
)
def test_overlapping_squares_cover_every_face_of_half_their_side(
    height: int, width: int, side: int
) -> None:
    squares = overlapping_squares(height, width, side)
    for top in range(0, height - side // 2 + 1, 3):
        for left in range(0, width - side // 2 + 1, 3):
            assert any(
                square.top <= top
                and square.left <= left
                and top + side // 2 <= square.top + square.side
                and left + side // 2 <= square.left + square.side
                for square in squares
            )


def test_the_square_of_a_found_face_shows_it_as_the_portrait_did() -> None:
    labels = _scene(400, 600, (150, 200, 300))
    (face,) = _search(PortraitSegmenter())(_paint(labels))
    crop = align_square(400, 600, face, alignment=ALIGNMENT)
    assert crop.side == pytest.approx(150, rel=0.3)
