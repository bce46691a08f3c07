"""Faces in label maps, and squares that show them as training portraits do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.face_finding import (
    MAX_SIDE,
    SCALE_TOLERANCE,
    SHIFT_TOLERANCE,
    WORKING_SIDE,
    Alignment,
    Face,
    align_square,
    choose_face,
    choose_work_square,
    find_faces,
    is_aligned,
)
from neural_photo_editor.imaging.geometry import Box, choose_square

SKIN, EYE, NOSE, LIP, HAIR, BROW = map(region_id, ("skin", "eye", "nose", "lip", "hair", "brow"))
ALIGNMENT = Alignment()


def _blank(height: int = 200, width: int = 300) -> NDArray[np.uint8]:
    return np.zeros((height, width), dtype=np.uint8)


def _draw_face(labels: NDArray[np.uint8], top: int, left: int, size: int) -> Box:
    """Draw a face of plain rectangles, 0.8 ``size`` wide and ``size`` high; return its box."""

    def fill(region: int, y: float, x: float, y_end: float, x_end: float) -> None:
        rows = slice(top + round(y * size), top + round(y_end * size))
        labels[rows, left + round(x * size) : left + round(x_end * size)] = region

    fill(HAIR, -0.2, -0.1, 0.5, 0.9)
    fill(SKIN, 0.0, 0.0, 1.0, 0.8)
    fill(BROW, 0.2, 0.1, 0.25, 0.7)
    fill(EYE, 0.3, 0.1, 0.4, 0.3)
    fill(EYE, 0.3, 0.5, 0.4, 0.7)
    fill(NOSE, 0.4, 0.3, 0.65, 0.5)
    fill(LIP, 0.75, 0.2, 0.85, 0.6)
    return top + round(0.2 * size), left, top + size, left + round(0.8 * size)


def _face(top: int, left: int, bottom: int, right: int) -> Face:
    center = ((top + bottom) / 2, (left + right) / 2)
    return Face((top, left, bottom, right), center, (bottom - top) * (right - left), 1.0)


def test_a_face_reaches_from_brows_to_chin() -> None:
    labels = _blank()
    box = _draw_face(labels, 50, 100, 80)
    (face,) = find_faces(labels)
    assert face.box == box
    assert face.center == ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    assert face.pixels == 80 * 64
    assert face.completeness == 1.0


def test_the_center_is_between_the_box_and_the_features_of_a_turned_head() -> None:
    labels = _blank()
    box = _draw_face(labels, 50, 100, 80)
    labels[50:130, 164:184] = SKIN
    (face,) = find_faces(labels)
    features = (100 + 8 + 100 + 56) / 2
    assert face.box == (*box[:3], box[3] + 20)
    assert face.center[1] == (features + (100 + 184) / 2) / 2


def test_two_people_side_by_side_are_two_faces_the_larger_first() -> None:
    labels = _blank()
    small, large = _draw_face(labels, 50, 40, 80), _draw_face(labels, 40, 120, 100)
    assert [face.box for face in find_faces(labels)] == [large, small]


def test_people_cheek_to_cheek_are_two_faces() -> None:
    labels = _blank()
    boxes = [_draw_face(labels, 50, left, 80) for left in (64, 128)]
    labels[60:100, 124:132] = SKIN
    assert sorted(face.box for face in find_faces(labels)) == boxes


@pytest.mark.parametrize("cut", [np.s_[75:85, :], np.s_[:, 140:148], np.s_[70:74, :]])
def test_a_face_cut_by_hair_or_glasses_is_one(cut: tuple[slice, slice]) -> None:
    labels = _blank()
    _draw_face(labels, 50, 100, 80)
    labels[cut] = HAIR
    (face,) = find_faces(labels)
    assert face.box[2:] == (130, 164)
    assert face.box[1] == 100


def test_specks_shoulders_and_empty_photos_are_no_faces() -> None:
    labels = _blank()
    assert find_faces(labels) == []
    labels[10:13, 10:13] = NOSE
    labels[100:200, 50:250] = SKIN
    assert find_faces(labels) == []


@pytest.mark.parametrize(("height", "width"), [(2, 40), (5, 4), (20, 90)])
def test_what_is_too_low_or_too_wide_is_no_face(height: int, width: int) -> None:
    labels = _blank()
    labels[10 : 10 + height, 10 : 10 + width] = EYE
    assert find_faces(labels) == []


def test_a_neck_taken_for_skin_makes_a_face_incomplete() -> None:
    labels = _blank(400)
    _draw_face(labels, 50, 100, 80)
    labels[130:290, 100:164] = SKIN
    (face,) = find_faces(labels)
    assert face.completeness < 0.6


def test_large_maps_are_searched_coarsely() -> None:
    labels = _blank(1500, 2400)
    box = _draw_face(labels, 300, 900, 600)
    (face,) = find_faces(labels)
    stride = math.ceil(2400 / WORKING_SIDE)
    np.testing.assert_allclose(face.box, box, atol=stride)
    assert face.pixels == pytest.approx(600 * 480, rel=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (3, 6000), (6000, 3)])
def test_odd_shapes_have_no_faces(shape: tuple[int, int]) -> None:
    assert all(face.box[2] <= shape[0] for face in find_faces(np.full(shape, NOSE, np.uint8)))


def test_noise_is_searched_in_bounded_time_and_stays_inside() -> None:
    labels = np.random.default_rng(0).integers(0, 11, (600, 700), dtype=np.uint8)
    for face in find_faces(labels):
        top, left, bottom, right = face.box
        assert 0 <= top < bottom <= 600
        assert 0 <= left < right <= 700


def test_drawn_portraits_have_one_face_where_the_defaults_say() -> None:
    faces = [find_faces(generate_portrait(3, i, resolution=64).labels) for i in range(40)]
    assert all(len(found) == 1 for found in faces)
    places = np.array([(f.center[1], f.center[0], f.height) for (f,) in faces]) / 64
    expected = (ALIGNMENT.center_x, ALIGNMENT.center_y, ALIGNMENT.height)
    np.testing.assert_allclose(places.mean(axis=0), expected, atol=0.015)
    aligned = [is_aligned(f, choose_square(64, 64), alignment=ALIGNMENT) for (f,) in faces]
    assert np.mean(aligned) > 0.9
    assert all(face.completeness > 0.7 for (face,) in faces)


def test_the_face_under_the_mask_is_chosen() -> None:
    large, small = _face(50, 50, 150, 130), _face(60, 200, 120, 250)
    mask = np.zeros((300, 400), dtype=bool)
    assert choose_face([], mask) is None
    assert choose_face([large, small]) == large
    assert choose_face([large, small], mask) == large
    mask[110:130, 120:260] = True
    assert choose_face([large, small], mask) == small


def test_hair_belongs_to_the_face_below_it() -> None:
    large, small = _face(50, 50, 150, 130), _face(60, 200, 120, 250)
    mask = np.zeros((300, 400), dtype=bool)
    mask[20:50, 190:260] = True
    assert choose_face([large, small], mask) == small


def test_a_mask_far_from_all_faces_has_none() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[290:, 380:] = True
    assert choose_face([_face(50, 50, 150, 130)], mask) is None


def test_a_thin_mask_is_not_overlooked() -> None:
    large, small = _face(50, 50, 150, 130), _face(60, 200, 120, 250)
    mask = np.zeros((400, 400), dtype=bool)
    mask[30:370, 225] = True
    mask[30:370:6] = False
    assert choose_face([large, small], mask) == small


faces = st.builds(
    lambda top, left, height, width: _face(top, left, top + height, left + width),
    *[st.integers(0, 250)] * 2, *[st.integers(5, 150)] * 2,
)  # fmt: skip


@given(face=faces)
def test_the_square_shows_the_face_as_training_portraits_do(face: Face) -> None:
    crop = align_square(400, 400, face, alignment=ALIGNMENT)
    y, x = face.center
    assert (y - crop.top) / crop.side == pytest.approx(ALIGNMENT.center_y, abs=0.52 / crop.side)
    assert (x - crop.left) / crop.side == pytest.approx(ALIGNMENT.center_x, abs=0.52 / crop.side)
    if face.height / ALIGNMENT.height > 32:
        assert face.height / crop.side == pytest.approx(ALIGNMENT.height, rel=1 / crop.side)
    assert is_aligned(face, crop, alignment=ALIGNMENT) or crop.side == 32


@settings(max_examples=300)
@given(face=faces, corners=st.tuples(*[st.integers(0, 399)] * 4))
def test_the_square_contains_the_mask(face: Face, corners: tuple[int, int, int, int]) -> None:
    (top, bottom), (left, right) = sorted(corners[:2]), sorted(corners[2:])
    box = (top, left, bottom + 1, right + 1)
    crop = align_square(400, 400, face, alignment=ALIGNMENT, must_contain=box)
    shown = crop.box
    assert shown[0] <= box[0] < box[2] <= shown[2]
    assert shown[1] <= box[1] < box[3] <= shown[3]
    assert crop.side <= MAX_SIDE * 400
    base = math.ceil(max(32, face.height / ALIGNMENT.height))
    if crop != choose_square(400, 400, must_contain=box):
        # Moved by the tolerance at most, or there would be no place for the mask.
        y, x = face.center
        shift = max(
            abs((y - crop.top) / crop.side - ALIGNMENT.center_y),
            abs((x - crop.left) / crop.side - ALIGNMENT.center_x),
        )
        assert shift <= SHIFT_TOLERANCE + 1.5 / crop.side
        assert crop.side >= min(base, 400)


def test_a_mask_inside_the_aligned_square_leaves_it() -> None:
    face = _face(200, 200, 260, 250)
    crop = align_square(600, 600, face, alignment=ALIGNMENT)
    assert crop == align_square(
        600, 600, face, alignment=ALIGNMENT, must_contain=(210, 210, 250, 240)
    )


def test_near_the_border_the_square_reaches_beyond_the_photo() -> None:
    crop = align_square(600, 600, _face(10, 5, 110, 85), alignment=ALIGNMENT)
    assert crop.top < 0
    assert crop.left < 0
    assert crop.box[:2] == (0, 0)


def test_a_face_that_fills_the_photo_gets_little_reflection() -> None:
    crop = align_square(400, 400, _face(10, 10, 390, 390), alignment=ALIGNMENT)
    assert crop.side == MAX_SIDE * 400


def test_masks_outside_the_photo_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        align_square(
            100, 100, _face(10, 10, 30, 30), alignment=ALIGNMENT, must_contain=(0, 0, 5, 101)
        )


def test_only_photos_framed_otherwise_are_aligned() -> None:
    framed, small = _face(80, 60, 178, 140), _face(80, 60, 120, 95)
    plain = choose_square(200, 200)
    assert choose_work_square(200, 200, None, alignment=ALIGNMENT) == plain
    assert choose_work_square(200, 200, framed, alignment=ALIGNMENT) == plain
    assert choose_work_square(200, 200, small, alignment=ALIGNMENT).side < 100


@pytest.mark.parametrize("scale", [1.0, SCALE_TOLERANCE * 0.99, 1 / (SCALE_TOLERANCE * 0.99)])
def test_the_tolerance_of_size_is_symmetric(scale: float) -> None:
    height = 1000 * ALIGNMENT.height * scale
    center = 1000 * ALIGNMENT.center_y
    face = _face(round(center - height / 2), 400, round(center + height / 2), 600)
    assert is_aligned(face, choose_square(1000, 1000), alignment=ALIGNMENT)


@pytest.mark.parametrize("name", ["center_x", "center_y", "height"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_impossible_alignments_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Alignment(**{name: value})
