"""The picture of before, marked and after: what is where, for every way to mark pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from neural_photo_editor.api.client_calls import EditOptions, edit_request
from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.schema import EditMetadata, EditResult
from neural_photo_editor.cli.side_by_side import side_by_side

SIZE = (40, 60)
PHOTO = np.full((*SIZE, 3), (200, 100, 50), np.uint8)
AFTER = np.full((*SIZE, 3), (0, 0, 250), np.uint8)
MASK = np.zeros(SIZE, np.bool_)
MASK[10:30, 20:40] = True
STROKES = np.zeros((*SIZE, 4), np.uint8)
STROKES[MASK] = (0, 255, 0, 255)
KEPT = (60, 30, 15)
LABEL_PX, STEP = 30, 70


def result(num_images: int = 1) -> EditResult:
    metadata = EditMetadata(
        width=60, height=40, bundle_digest="d", seed=7, sampler="ddim", steps=4, timestep=9,
        strength=1, seeds=tuple(range(7, 7 + num_images)),
    )  # fmt: skip
    images = (encode_png(AFTER),) * num_images
    return EditResult(image=images[0], more_images=images[1:], metadata=metadata)


def no_regions() -> NDArray[np.bool_]:
    raise AssertionError


@pytest.mark.parametrize(
    ("options", "inside"),
    [
        ({"mask": MASK}, (200, 100, 50)),
        ({"mask": MASK, "color": "#010203"}, (1, 2, 3)),
        ({"regions": ["hair"], "color": "#010203"}, (1, 2, 3)),
        ({"strokes": STROKES}, (0, 255, 0)),
        ({"strokes": STROKES, "mask": MASK}, (0, 255, 0)),
    ],
)
def test_before_marked_and_after(options: EditOptions, inside: tuple[int, int, int]) -> None:
    request = edit_request(PHOTO, **options)
    regions = (lambda: MASK) if "regions" in options else no_regions
    sheet = np.asarray(side_by_side(request, result(), mask_of_regions=regions))
    assert sheet.shape == (LABEL_PX + 40, 2 * STEP + 60, 3)
    before, marked, after = (sheet[LABEL_PX:, x : x + 60] for x in (0, STEP, 2 * STEP))
    np.testing.assert_array_equal(before, PHOTO)
    np.testing.assert_array_equal(after, AFTER)
    np.testing.assert_array_equal(marked, np.where(MASK[..., None], inside, KEPT))
    # A label above each.
    assert all((sheet[:LABEL_PX, x : x + 60] < 128).any() for x in (0, STEP, 2 * STEP))


def test_every_variation_is_there_and_large_photos_are_scaled_down() -> None:
    request = edit_request(PHOTO, mask=MASK, variations=3)
    assert side_by_side(request, result(3), mask_of_regions=no_regions).width == 4 * STEP + 60
    large = np.zeros((40, 1536, 3), np.uint8)
    mask = np.ones((40, 1536), np.bool_)
    sheet = side_by_side(edit_request(large, mask=mask), result(), mask_of_regions=no_regions)
    assert sheet.size == (3 * 768 + 2 * 10, LABEL_PX + 20)
