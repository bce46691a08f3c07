"""Masks against brute force and scikit-image's distance; composites against the upload's bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from neural_photo_editor.imaging.compositing import composite, paint_over
from neural_photo_editor.imaging.geometry import choose_square
from neural_photo_editor.imaging.masks import bounding_box, feather_inside, mask_to_model
from neural_photo_editor.imaging.recoloring import recolor


def _blob(height: int = 90, width: int = 70) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y - 40) / 30.0) ** 2 + ((x - 35) / 22.0) ** 2 < 1.0


def test_bounding_box() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    assert bounding_box(mask) is None
    mask[1, 2] = mask[3, 5] = True
    assert bounding_box(mask) == (1, 2, 4, 6)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(16, 150), width=st.integers(16, 150), y=st.floats(0, 0.999),
    x=st.floats(0, 0.999),
)  # fmt: skip
def test_a_single_pixel_marks_every_cell_it_touches(
    height: int, width: int, y: float, x: float
) -> None:
    row, column = int(y * height), int(x * width)
    mask = np.zeros((height, width), dtype=bool)
    mask[row, column] = True
    crop = choose_square(height, width, must_contain=(row, column, row + 1, column + 1))
    small = mask_to_model(mask, crop, resolution=32)[0, 0].numpy()
    top, left, bottom, right = crop.visible(32)
    rows, columns = np.nonzero(small[top:bottom, left:right])
    # Cell i of n covers [i * length / n, (i + 1) * length / n) of the crop.
    for index, cells, length, position in (
        (rows, bottom - top, crop.height, row - crop.top),
        (columns, right - left, crop.width, column - crop.left),
    ):
        expected = {
            i
            for i in range(cells)
            if i * length < (position + 1) * cells and (i + 1) * length > position * cells
        }
        assert set(index.tolist()) == expected


def test_the_padding_mirrors_the_mask() -> None:
    mask = np.zeros((32, 64), dtype=bool)
    mask[1] = True
    crop = choose_square(32, 64, must_contain=(0, 0, 32, 64))
    small = mask_to_model(mask, crop, resolution=64)[0, 0].numpy()
    assert np.flatnonzero(small[:, 0]).tolist() == [15, 17]


@pytest.mark.parametrize("radius", [1, 4, 9])
def test_opacity_is_the_distance_to_the_border(radius: int) -> None:
    mask = _blob()
    expected = np.minimum(1.0, distance_transform_edt(mask) / (radius + 1))
    np.testing.assert_allclose(feather_inside(mask, radius_px=radius), expected, atol=1e-6)


def test_opacity_is_zero_outside_and_positive_inside() -> None:
    mask = np.random.default_rng(0).random((40, 40)) > 0.5
    opacity = feather_inside(mask, radius_px=6)
    assert (opacity[~mask] == 0).all()
    assert (opacity[mask] > 0).all()
    assert opacity.max() <= 1.0


def test_thin_masks_are_opaque_along_their_middle() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[18:23, 5:55] = True
    opacity = feather_inside(mask, radius_px=12)
    assert opacity[20, 30] == 1.0
    assert opacity[18, 30] == pytest.approx(0.5)


def test_the_photo_border_is_not_a_mask_border() -> None:
    mask = np.zeros((30, 30), dtype=bool)
    mask[:, :15] = True
    opacity = feather_inside(mask, radius_px=4)
    assert (opacity[:, 0] == 1.0).all()
    np.testing.assert_allclose(opacity[0, 10:15], [1.0, 0.8, 0.6, 0.4, 0.2], atol=1e-6)
    assert (feather_inside(np.ones((9, 9), dtype=bool), radius_px=4) == 1.0).all()


def test_no_feather_and_no_mask() -> None:
    mask = _blob()
    np.testing.assert_array_equal(feather_inside(mask, radius_px=0), mask)
    assert feather_inside(np.zeros((4, 4), dtype=bool), radius_px=3).max() == 0.0


@pytest.mark.parametrize("radius", [-1, 65])
def test_feather_out_of_range(radius: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 64"):
        feather_inside(_blob(), radius_px=radius)


def test_outside_the_mask_every_byte_is_the_photo() -> None:
    rng = np.random.default_rng(0)
    photo, edit = rng.integers(0, 256, (2, 90, 70, 3), dtype=np.uint8)
    mask = _blob()
    before = photo.copy()
    result = composite(photo, edit, mask, feather_px=5)
    np.testing.assert_array_equal(result[~mask], photo[~mask])
    np.testing.assert_array_equal(photo, before)
    core = distance_transform_edt(mask) >= 6
    np.testing.assert_array_equal(result[core], edit[core])
    blended = result[mask].astype(float)
    low, high = np.minimum(photo, edit)[mask], np.maximum(photo, edit)[mask]
    assert (blended >= low).all()
    assert (blended <= high).all()


def test_sizes_must_agree() -> None:
    photo = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="differ in size"):
        composite(photo, photo, np.ones((4, 5), dtype=bool), feather_px=0)


def test_strokes_are_blended_by_their_alpha() -> None:
    photo = np.full((1, 3, 3), 100, dtype=np.uint8)
    strokes = np.array([[[200, 0, 0, 0], [200, 0, 100, 255], [200, 0, 100, 128]]], dtype=np.uint8)
    painted = paint_over(photo, strokes)
    assert painted[0].tolist() == [[100, 100, 100], [200, 0, 100], [150, 50, 100]]


@pytest.mark.parametrize("color", [(200, 40, 40), (30, 60, 200), (230, 220, 200), (0, 0, 0)])
def test_recoloring_keeps_the_shading(color: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    mask = _blob()
    strands = 60 + 30 * np.sin(np.arange(70) / 2)[None, :, None] + rng.normal(0, 3, (90, 70, 1))
    photo = np.clip(strands * np.array([1.0, 0.8, 0.6]), 0, 255).astype(np.uint8)
    painted = recolor(photo, mask, color)
    np.testing.assert_array_equal(painted[~mask], photo[~mask])
    assert np.abs(painted[mask].mean(axis=0) - color).max() < 8
    if max(color) > 0:
        before, after = photo[mask].sum(axis=1), painted[mask].sum(axis=1)
        assert np.corrcoef(before, after)[0, 1] > 0.9
        assert after.std() / after.mean() > 0.05


def test_recoloring_a_black_region_gives_the_color() -> None:
    photo = np.zeros((8, 8, 3), dtype=np.uint8)
    painted = recolor(photo, np.ones((8, 8), dtype=bool), (10, 200, 90))
    assert (painted == [10, 200, 90]).all()
