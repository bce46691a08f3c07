"""Regions of faces that are small or off their place: exact borders, and nobody else's hair."""

import numpy as np
import pytest

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.face_finding import Alignment, Face, choose_face, find_faces
from neural_photo_editor.editing.face_regions import label_photo, mark_regions
from neural_photo_editor.editing.segmentation import LabelMap
from neural_photo_editor.editing.windows import rows_and_columns
from neural_photo_editor.imaging.geometry import SquareCrop
from neural_photo_editor.imaging.masks import Mask, bounding_box

ALIGNMENT = Alignment()
SIZE = (600, 800)
PORTRAIT = generate_portrait(1, 16, resolution=128)
HAIR, SKIN, HAT = map(region_id, ("hair", "skin", "hat"))
RESOLUTION = 160


def _scene(*places: tuple[int, int]) -> LabelMap:
    scene = np.zeros(SIZE, dtype=np.uint8)
    for top, left in places:
        scene[top : top + 128, left : left + 128] = PORTRAIT.labels
    return scene


class Eyes:
    """Sees labels as they are in small squares, and blocks in large ones; keeps what it saw."""

    def __init__(self, scene: LabelMap) -> None:
        self.scene = scene
        self.looks: list[SquareCrop] = []

    def __call__(self, square: SquareCrop) -> LabelMap:
        self.looks.append(square)
        block = 1 + square.side // RESOLUTION
        top, left, bottom, right = square.box
        seen = self.scene[top:bottom:block, left:right:block]
        blocks = seen.repeat(block, axis=0).repeat(block, axis=1)
        return blocks[: bottom - top, : right - left].copy()


def _mark(names: list[str], eyes: Eyes, face: Face | None) -> Mask:
    return mark_regions(names, eyes.scene.shape, face=face, segment=eyes, alignment=ALIGNMENT)


def test_regions_belong_to_the_face_and_keep_their_exact_borders() -> None:
    eyes = Eyes(_scene((200, 340), (200, 500)))
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[250:290, 540:580] = True
    face = choose_face(find_faces(eyes.scene), mask)
    expected = np.isin(_scene((200, 500)), [HAIR, region_id("lip")])
    marked = _mark(["hair", "lip"], eyes, face)
    inside = rows_and_columns(eyes.looks[0].box)
    np.testing.assert_array_equal(marked[inside], expected[inside])
    # Where hair leaves the square it is followed, in blocks, but not to the neighbor's.
    assert len(eyes.looks) > 1
    assert (marked != expected).sum() < 100


def test_regions_that_leave_the_square_are_followed() -> None:
    scene = _scene((200, 300))
    braid = slice(300, 420), slice(342, 358)  # Below the square.
    scene[braid] = HAIR
    (face,) = find_faces(scene)
    eyes = Eyes(scene)
    marked = _mark(["hair"], eyes, face)
    sides = [square.side for square in eyes.looks]
    assert len(sides) > 1
    assert sides == sorted(sides)
    # The small square's labels stay; only what lies around it is seen in blocks.
    inside = rows_and_columns(eyes.looks[0].box)
    np.testing.assert_array_equal(marked[inside], scene[inside] == HAIR)
    assert (marked != (scene == HAIR)).mean() < 0.001
    assert marked[400:418, 345:355].all()
    # The background ends with the photo.
    assert bounding_box(_mark(["background"], eyes, face)) == (0, 0, *SIZE)


def test_a_region_beside_the_square_is_found() -> None:
    scene = _scene((200, 300))
    scene[20:60, 700:760] = HAT
    (face,) = find_faces(scene)
    marked = _mark(["hat"], Eyes(scene), face)
    assert bounding_box(marked) == pytest.approx((20, 700, 60, 760), abs=8)


@pytest.mark.parametrize("has_face", [True, False])
def test_framed_portraits_and_photos_without_faces_are_labeled_as_a_whole(has_face: bool) -> None:
    eyes = Eyes(PORTRAIT.labels)
    face = find_faces(PORTRAIT.labels)[0] if has_face else None
    np.testing.assert_array_equal(_mark(["skin"], eyes, face), PORTRAIT.labels == SKIN)
    assert eyes.looks == [SquareCrop(0, 0, 128, 128, 128)]


def test_absent_regions_are_named_with_those_found() -> None:
    eyes = Eyes(_scene((200, 300)))
    with pytest.raises(RequestError, match="found: background, hair, brow, ear") as caught:
        _mark(["hair", "hat"], eyes, find_faces(eyes.scene)[0])
    assert caught.value.detail == "this photo shows no hat"
    assert caught.value.field == "regions"


def test_a_labeled_photo_shows_every_face_as_its_own_square_does() -> None:
    scene = _scene((100, 50), (200, 500))
    eyes = Eyes(scene)
    faces = find_faces(scene)
    labels = label_photo(SIZE, faces=faces, segment=eyes, alignment=ALIGNMENT)
    whole, *squares = eyes.looks
    assert whole.box == (0, 0, *SIZE)
    assert len(squares) == 2
    expected = eyes(whole)
    for square in squares:
        expected[rows_and_columns(square.box)] = scene[rows_and_columns(square.box)]
    np.testing.assert_array_equal(labels, expected)
    assert (labels != scene).sum() < (eyes(whole) != scene).sum()


def test_a_framed_portrait_is_labeled_in_one_look() -> None:
    eyes = Eyes(PORTRAIT.labels)
    faces = find_faces(PORTRAIT.labels)
    labels = label_photo((128, 128), faces=faces, segment=eyes, alignment=ALIGNMENT)
    np.testing.assert_array_equal(labels, PORTRAIT.labels)
    assert len(eyes.looks) == 1
