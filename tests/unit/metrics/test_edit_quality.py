import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter
from skimage.color import deltaE_ciede2000, rgb2lab

from neural_photo_editor.metrics.edit_quality import (
    LUMA,
    color_movement,
    color_patches,
    detail_kept,
    max_difference_outside,
    mean_change_inside,
    paint_difference,
    seam,
    shading_kept,
    share_unchanged_outside,
)

MASK = np.zeros((40, 40), dtype=bool)
MASK[10:30, 10:30] = True


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(40, 120, (40, 40, 3)).astype(np.uint8)


def test_only_pixels_outside_count(photo: np.ndarray) -> None:
    result = photo.copy()
    result[MASK] = 255
    assert max_difference_outside(photo, result, MASK) == 0
    result[0, 0, 1] = photo[0, 0, 1] - 3  # Must not wrap around in uint8.
    assert max_difference_outside(photo, result, MASK) == 3


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_color_movement_is_the_share_of_the_way(photo: np.ndarray, share: float) -> None:
    paint = np.array([200, 30, 90], dtype=np.uint8)
    flat = np.full_like(photo, 80)
    mixed = flat + share * (paint - flat.astype(float))
    result = np.where(MASK[..., None], np.rint(mixed), flat).astype(np.uint8)
    assert color_movement(flat, result, MASK, paint=paint) == pytest.approx(share, abs=0.01)
    painted = np.where(MASK[..., None], paint, flat)
    assert color_movement(flat, result, MASK, paint=painted) == pytest.approx(share, abs=0.01)


def test_a_change_across_the_way_is_no_movement() -> None:
    original = np.full((40, 40, 3), 100, dtype=np.uint8)
    result = original.copy()
    result[MASK] = (100, 160, 100)
    paint = np.array([200, 100, 100], dtype=np.uint8)
    assert color_movement(original, result, MASK, paint=paint) == pytest.approx(0.0)


def test_detail_agrees_with_a_filter_of_scipy(photo: np.ndarray) -> None:
    blurred = np.stack([uniform_filter(photo[..., c], 3) for c in range(3)], axis=-1)
    inner = np.zeros_like(MASK)
    inner[14:26, 14:26] = True

    def contrast(image: np.ndarray) -> float:
        luma = image @ LUMA
        return float((luma - uniform_filter(luma, 9))[inner].std())

    expected = contrast(blurred) / contrast(photo)
    assert 0.1 < expected < 0.6
    assert detail_kept(photo, blurred, MASK) == pytest.approx(expected, rel=1e-6)


def test_flat_paint_keeps_no_detail_and_the_photo_keeps_all(photo: np.ndarray) -> None:
    flat = photo.copy()
    flat[MASK] = (200, 30, 90)
    assert detail_kept(photo, flat, MASK) == pytest.approx(0.0, abs=1e-9)
    assert detail_kept(photo, photo, MASK) == 1.0
    assert detail_kept(photo, photo * 2, MASK) == pytest.approx(2.0)
    assert detail_kept(photo, photo + 90, MASK) == pytest.approx(1.0)


def test_shading_is_kept_by_another_color_but_not_by_noise(photo: np.ndarray) -> None:
    noise = np.random.default_rng(1).integers(0, 255, photo.shape).astype(np.uint8)
    assert shading_kept(photo, photo // 2 + 90, MASK) > 0.95
    assert abs(shading_kept(photo, noise, MASK)) < 0.15
    expected = np.corrcoef((photo @ LUMA)[MASK], (noise @ LUMA)[MASK])[0, 1]
    assert shading_kept(photo, noise, MASK) == pytest.approx(expected)
    assert shading_kept(photo, np.full_like(photo, 9), MASK) == 0.0


def test_patches_of_another_hue_count_and_grain_and_shade_do_not(photo: np.ndarray) -> None:
    painted = np.full_like(photo, 120)
    painted[MASK] = (180, 90, 60)
    assert color_patches(painted, painted, MASK) == 0.0

    def changed(change: np.ndarray) -> np.ndarray:
        return np.where(MASK[..., None], painted + change, painted).astype(np.uint8)

    x = np.arange(40)[None, :, None]
    hue = np.array([0.114, 0.0, -0.299]) * 100  # No luma: 0.299 * 11.4 = 0.114 * 29.9 of it.
    halves = changed(np.rint(np.where(x < 20, 1, -1) * hue).astype(int))
    # Each side departs by the length of the change, less where the window sees both; gray added.
    length = np.linalg.norm(hue) * 128 / (LUMA @ (180, 90, 60) + 16)
    assert 0.6 < color_patches(painted, halves, MASK) / length < 1.0
    everywhere = changed(np.rint(hue).astype(int))
    darker = np.where(x < 20, 0.7, 1.0) * (painted + 16.0) - 16.0
    darker_places = np.where(MASK[..., None], np.rint(darker), painted).astype(np.uint8)
    assert color_patches(painted, everywhere, MASK) == pytest.approx(0.0, abs=1e-6)
    assert color_patches(painted, darker_places, MASK) < 2.0
    grain = changed(np.random.default_rng(3).integers(-20, 21, photo.shape))
    assert color_patches(painted, grain, MASK) < 0.2 * np.sqrt(3 * 40**2 / 12)


def test_what_cannot_be_measured_is_refused(photo: np.ndarray) -> None:
    empty = np.zeros_like(MASK)
    paint = np.array([1, 2, 3], dtype=np.uint8)
    with pytest.raises(ValueError, match="empty"):
        color_movement(photo, photo, empty, paint=paint)
    with pytest.raises(ValueError, match="empty"):
        detail_kept(photo, photo, empty)
    with pytest.raises(ValueError, match="choose another"):
        color_movement(photo, photo, MASK, paint=photo)
    with pytest.raises(ValueError, match="differ in size"):
        max_difference_outside(photo, photo[:-1], MASK)


def test_every_pixel_outside_that_changed_is_counted(photo: np.ndarray) -> None:
    result = photo.copy()
    result[MASK] = 255
    assert share_unchanged_outside(photo, result, MASK) == 1.0
    result[0, :12, 1] += 1
    assert share_unchanged_outside(photo, result, MASK) == 1.0 - 12 / (40 * 40 - 20 * 20)
    assert share_unchanged_outside(photo, result, np.ones_like(MASK)) == 1.0


def test_the_change_inside_is_a_mean_over_the_mask(photo: np.ndarray) -> None:
    result = photo.copy()
    result[MASK] += np.array([3, 0, 9], dtype=np.uint8)
    assert mean_change_inside(photo, result, MASK) == pytest.approx(4.0)
    assert mean_change_inside(photo, photo, MASK) == 0.0


def test_the_paint_differs_from_itself_by_nothing_and_as_in_skimage(photo: np.ndarray) -> None:
    painted = photo.copy()
    painted[MASK] = (200, 30, 90)
    assert paint_difference(painted, painted, MASK) == 0.0
    expected = deltaE_ciede2000(rgb2lab(painted), rgb2lab(photo))[MASK].mean()
    assert paint_difference(painted, photo, MASK) == pytest.approx(expected, rel=1e-3)


@given(seed=st.integers(0, 10_000), width_px=st.integers(1, 3))
def test_a_photo_has_no_seam_whatever_the_mask(seed: int, width_px: int) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (14, 15, 3), dtype=np.uint8)
    mask = rng.random((14, 15)) < 0.5
    assert seam(photo, photo, mask, width_px=width_px) == 1.0


@pytest.mark.parametrize("width_px", [1, 2, 5])
def test_the_jumps_are_those_of_a_loop(photo: np.ndarray, width_px: int) -> None:
    result = np.random.default_rng(9).integers(0, 256, photo.shape).astype(np.uint8)
    w, sums, lines = width_px, np.zeros(2), 0
    for image, where in ((photo, MASK), (photo.swapaxes(0, 1), MASK.T)):
        other = result if image is photo else result.swapaxes(0, 1)
        for column in range(40):
            for i in range(2 * w - 1, 40 - 2 * w):
                if where[i, column] != where[i + 1, column]:
                    lines += 1
                    for k, picture in enumerate((image, other)):
                        far, near, inner, deep = (
                            picture[i + 1 + n * w : i + 1 + (n + 1) * w, column].mean(axis=0)
                            for n in (-2, -1, 0, 1)
                        )
                        jump = (inner - near) - ((near - far) + (deep - inner)) / 2
                        sums[k] += np.abs(jump).mean()
    expected = (sums[1] / lines + 1) / (sums[0] / lines + 1)
    assert seam(photo, result, MASK, width_px=w) == pytest.approx(expected, rel=1e-12)


def test_a_step_at_the_border_is_a_seam_of_its_height_and_a_ramp_is_none() -> None:
    flat = np.full((40, 40, 3), 100, dtype=np.uint8)
    step = flat.copy()
    step[MASK] = 130
    # Every line crosses the border once and sees the whole step: (30 + 1) / (0 + 1).
    assert seam(flat, step, MASK) == pytest.approx(31.0)
    ramp = np.broadcast_to(np.arange(40)[:, None, None] * 4 + 20, (40, 40, 3)).astype(np.uint8)
    assert seam(flat, ramp, MASK) == pytest.approx(1.0)


def test_a_feather_hides_a_step_from_a_narrow_look_but_not_from_a_wide_one() -> None:
    flat = np.full((80, 80, 3), 100, dtype=np.uint8)
    mask = np.zeros((80, 80), dtype=bool)
    mask[20:60, 20:60] = True
    from_side = np.minimum(np.arange(40), 39 - np.arange(40)) + 1
    opacity = np.zeros((80, 80, 1))
    opacity[20:60, 20:60, 0] = np.minimum(1.0, np.minimum.outer(from_side, from_side) / 5.0)
    hard = np.where(mask[..., None], 140, flat).astype(np.uint8)
    feathered = (100 + 40 * opacity).astype(np.uint8) + np.zeros_like(flat)
    assert seam(flat, hard, mask) == pytest.approx(seam(flat, hard, mask, width_px=8)) == 41.0
    assert seam(flat, feathered, mask) == pytest.approx(1.0 + 4.0, rel=0.05)
    # Eight pixels of opacity 0.2 ... 1 have a mean of 0.75: 40 * (0.75 - 0.25 / 2).
    assert seam(flat, feathered, mask, width_px=8) == pytest.approx(1.0 + 25.0, rel=0.1)


def test_a_mask_without_border_has_no_seam(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no border"):
        seam(photo, photo, np.ones_like(MASK))
    with pytest.raises(ValueError, match="smaller width_px"):
        seam(photo, photo, MASK, width_px=11)
