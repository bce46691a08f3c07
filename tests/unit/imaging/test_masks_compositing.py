"""Masks against brute force and scikit-image's distance; composites against the upload's bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from neural_photo_editor.imaging import masks
from neural_photo_editor.imaging.compositing import composite, paint_over
from neural_photo_editor.imaging.geometry import choose_square
from neural_photo_editor.imaging.masks import (
    bounding_box,
    feather_inside,
    feather_tiles,
    mask_coverage,
    mask_to_model,
)
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
    # Cell i covers [i, i + 1) * side / 32 of the square; beyond the photo lie its reflections.
    for axis, start, length, position in (
        (1, crop.top, height, row),
        (0, crop.left, width, column),
    ):
        period = 2 * (length - 1)
        shown = [
            p for p in range(start - 1, start + crop.side + 1)
            if min(p % period, period - p % period) == position
        ]  # fmt: skip
        expected = {
            i
            for i in range(32)
            for p in shown
            if i * crop.side < (p + 1 - start) * 32 and (i + 1) * crop.side > (p - start) * 32
        }
        assert set(np.flatnonzero(small.any(axis=axis)).tolist()) == expected


def test_the_padding_mirrors_the_mask() -> None:
    mask = np.zeros((32, 64), dtype=bool)
    mask[1] = True
    crop = choose_square(32, 64, must_contain=(0, 0, 32, 64))
    small = mask_to_model(mask, crop, resolution=64)[0, 0].numpy()
    assert np.flatnonzero(small[:, 0]).tolist() == [15, 17]


def test_coverage_is_the_share_of_masked_pixels() -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    crop = choose_square(64, 64)
    shares = mask_coverage(mask, crop, resolution=16)[0, 0].numpy()
    expected = mask.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(shares, expected, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 4, 9])
def test_opacity_is_the_distance_to_the_border(radius: int) -> None:
    mask = _blob()
    expected = np.minimum(1.0, distance_transform_edt(mask) / (radius + 1))
    np.testing.assert_allclose(feather_inside(mask, radius_px=radius), expected, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 130), width=st.integers(1, 130), radius=st.integers(0, 7),
    share=st.sampled_from([0.02, 0.3, 0.97, 1.0]), blocks=st.integers(1, 30),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_opacity_in_tiles_equals_that_of_the_whole_mask(
    height: int, width: int, radius: int, share: float, blocks: int, seed: int
) -> None:
    coarse = np.random.default_rng(seed).random((height // blocks + 1, width // blocks + 1)) < share
    mask = np.kron(coarse, np.ones((blocks, blocks), dtype=bool))[:height, :width]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_MIN_TILE", 8)
        patch.setattr(masks, "_MARGINS_PER_TILE", 0)
        tiled = feather_inside(mask, radius_px=radius)
    np.testing.assert_array_equal(tiled, masks._feathered(mask, radius_px=radius))


def test_only_tiles_at_the_border_are_computed() -> None:
    mask = np.zeros((640, 640), dtype=bool)
    mask[:, 128:] = True
    mask[300, 500] = False
    tiles = {(t[0].start, t[1].start): opacity for t, opacity in feather_tiles(mask, radius_px=1)}
    assert {corner[1] for corner in tiles} == set(range(128, 640, 64))  # None left of the mask.
    computed = {corner for corner, opacity in tiles.items() if opacity is not None}
    along_the_edge = {(top, 128) for top in range(0, 640, 64)}
    around_the_hole = {(top, left) for top in (192, 256, 320) for left in (384, 448, 512)}
    assert computed == along_the_edge | around_the_hole


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


def test_strokes_of_many_bands_equal_the_formula() -> None:
    rng = np.random.default_rng(2)
    photo = rng.integers(0, 256, (100, 50, 3), dtype=np.uint8)
    strokes = rng.integers(0, 256, (100, 50, 4), dtype=np.uint8)
    strokes[:40, :, 3] = 0
    strokes[60:, 10:, 3] = 0
    alpha = strokes[..., 3:] / 255
    expected = photo + alpha * (strokes[..., :3].astype(float) - photo)
    assert np.abs(paint_over(photo, strokes) - expected).max() <= 0.501
    clear = strokes[..., 3] == 0
    np.testing.assert_array_equal(paint_over(photo, strokes)[clear], photo[clear])
    mask = rng.random((100, 50)) < 0.5
    masked = np.where(mask[..., None], paint_over(photo, strokes), photo)
    np.testing.assert_array_equal(paint_over(photo, strokes, mask=mask), masked)


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


def test_recoloring_equals_its_formula() -> None:
    rng = np.random.default_rng(4)
    photo = rng.integers(70, 140, (100, 80, 3), dtype=np.uint8)
    mask = rng.random((100, 80)) < 0.4
    target = np.array([160.0, 98.0, 120.0])
    weights = np.array([0.299, 0.587, 0.114])
    luma = photo[mask] @ weights
    difference = (luma - luma.mean())[:, None]
    to_black = target / (target @ weights)
    to_white = (255 - target) / (255 - target @ weights)
    lighter = (to_black + to_white) / 2
    expected = target + np.where(difference < 0, difference * to_black, difference * lighter)
    expected += target - expected.mean(axis=0)
    painted = recolor(photo, mask, (160, 98, 120))
    assert np.abs(painted[mask] - expected).max() <= 0.5 + 1 / 8  # luma is read in steps of 1/8
    np.testing.assert_array_equal(painted[~mask], photo[~mask])


@pytest.mark.parametrize("color", ["#c2571f", "#e0b45a", "#1f8f8c", "#7a2fd0", "#ff3fa0"])
@pytest.mark.parametrize("level", [40.0, 120.0, 190.0])
def test_recoloring_keeps_differences_of_luma(color: str, level: float) -> None:
    strands = level + 12.0 * np.sin(np.arange(70) / 2)[None, :, None] * np.ones((90, 1, 3))
    photo = np.rint(strands).astype(np.uint8)
    mask = _blob()
    red, green, blue = bytes.fromhex(color[1:])
    painted = recolor(photo, mask, (red, green, blue))
    weights = np.array([0.299, 0.587, 0.114])
    before, after = photo[mask] @ weights, painted[mask] @ weights
    assert after.std() == pytest.approx(before.std(), rel=0.05)
    assert np.corrcoef(before, after)[0, 1] > 0.99


def test_recoloring_a_black_region_gives_the_color() -> None:
    photo = np.zeros((8, 8, 3), dtype=np.uint8)
    painted = recolor(photo, np.ones((8, 8), dtype=bool), (10, 200, 90))
    assert (painted == [10, 200, 90]).all()
