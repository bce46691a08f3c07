"""A second look at small faces: their place, their regions, and nobody else's."""

from typing import Any

import numpy as np
import pytest

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.editing.face_finding import Alignment
from neural_photo_editor.editing.face_regions import find_edited_face, mark_regions
from neural_photo_editor.imaging.masks import bounding_box

ALIGNMENT = Alignment(center_x=0.5, center_y=0.65, height=0.49)
PORTRAIT = generate_portrait(1, 16, resolution=128)
HAIR, SKIN = region_id("hair"), region_id("skin")


def _scene(*places: tuple[int, int], height: int = 600, width: int = 800) -> np.ndarray:
    """Label maps in all three channels of a photo: a segmenter that sees them is perfect."""
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    for top, left in places:
        photo[top : top + 128, left : left + 128] = PORTRAIT.labels[..., None]
    return photo


class Eyes:
    """Reads labels off the photo and keeps what was looked at."""

    def __init__(self) -> None:
        self.looks: list[tuple[int, ...]] = []

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        self.looks.append(photo.shape[:2])
        return photo[..., 0]


def _blurred(photo: np.ndarray, block: int = 8) -> np.ndarray:
    """What a segmenter sees of the whole photo: blocks."""
    return photo[::block, ::block, 0].repeat(block, axis=0).repeat(block, axis=1)


def _arguments(photo: np.ndarray, eyes: Eyes) -> dict[str, Any]:
    return {
        "photo": photo, "labels": _blurred(photo), "segment": eyes, "alignment": ALIGNMENT,
    }  # fmt: skip


def test_a_small_face_is_placed_exactly_by_another_look() -> None:
    photo, eyes = _scene((200, 300)), Eyes()
    face = find_edited_face(mask=None, **_arguments(photo, eyes))
    exact = find_edited_face(
        photo[200:328, 300:428], PORTRAIT.labels, mask=None, segment=eyes, alignment=ALIGNMENT
    )
    assert face is not None
    assert exact is not None
    assert 1 <= len(eyes.looks) <= 2
    assert face.box == tuple(np.add(exact.box, (200, 300, 200, 300)))
    assert face.center == tuple(np.add(exact.center, (200, 300)))


def test_the_face_under_the_mask_is_the_one() -> None:
    photo = _scene((100, 50), (200, 500))
    for top, left in ((100, 50), (200, 500)):
        mask = np.zeros(photo.shape[:2], dtype=bool)
        mask[top + 10 : top + 40, left + 40 : left + 80] = True
        face = find_edited_face(mask=mask, **_arguments(photo, Eyes()))
        assert face is not None
        assert left < face.center[1] < left + 128


def test_regions_belong_to_the_face_and_keep_their_exact_borders() -> None:
    photo, eyes = _scene((100, 50), (200, 500)), Eyes()
    arguments = _arguments(photo, eyes)
    mask = np.zeros(photo.shape[:2], dtype=bool)
    mask[250:290, 540:580] = True
    face = find_edited_face(mask=mask, **arguments)
    marked = mark_regions(["hair", "lip"], face=face, **arguments)
    expected = np.isin(_scene((200, 500))[..., 0], [HAIR, region_id("lip")])
    np.testing.assert_array_equal(marked, expected)


def test_regions_that_leave_the_square_make_it_grow() -> None:
    photo, eyes = _scene((200, 300)), Eyes()
    photo[328:420, 340:360] = HAIR  # A braid below the square.
    photo[300:330, 340:360] = HAIR
    arguments = _arguments(photo, eyes)
    face = find_edited_face(mask=None, **arguments)
    marked = mark_regions(["hair"], face=face, **arguments)
    np.testing.assert_array_equal(marked, photo[..., 0] == HAIR)
    assert eyes.looks == sorted(eyes.looks)
    assert len(eyes.looks) > 2
    # The background ends with the photo.
    whole = mark_regions(["background"], face=face, **arguments)
    assert bounding_box(whole) == (0, 0, 600, 800)


def test_a_face_that_fills_the_photo_needs_no_second_look() -> None:
    eyes = Eyes()
    arguments: dict[str, Any] = {
        "photo": PORTRAIT.photo, "labels": PORTRAIT.labels, "segment": eyes, "alignment": ALIGNMENT,
    }  # fmt: skip
    face = find_edited_face(mask=None, **arguments)
    assert face is not None
    np.testing.assert_array_equal(
        mark_regions(["skin"], face=face, **arguments), PORTRAIT.labels == SKIN
    )
    assert eyes.looks == []


def test_absent_regions_are_named_with_those_found() -> None:
    photo = _scene((200, 300))
    arguments = _arguments(photo, Eyes())
    face = find_edited_face(mask=None, **arguments)
    with pytest.raises(RequestError, match="found: background, hair, ear") as caught:
        mark_regions(["hair", "hat"], face=face, **arguments)
    assert caught.value.detail == "this photo shows no hat"
    assert caught.value.field == "regions"
