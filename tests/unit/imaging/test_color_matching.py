"""Color matching finds casts it knows nothing of, and stays bounded whatever the ring shows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from neural_photo_editor.imaging.color_matching import GAINS, MAX_SHIFT, match_ring

SIDE = 96


def _photo(seed: int, *, noise: float = 25.0) -> np.ndarray:
    """Texture of medium gray levels, which a cast does not clip."""
    chance = np.random.default_rng(seed)
    texture = gaussian_filter(chance.standard_normal((SIDE, SIDE, 3)), (1, 1, 0))
    return np.clip(128 + noise * texture / texture.std(), 60, 196).astype(np.uint8)


def _mask() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[20:80, 16:90] = True
    return mask


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    gains=st.tuples(*[st.floats(0.85, 1.2)] * 3),
    shifts=st.tuples(*[st.floats(-20, 20)] * 3),
    width_px=st.sampled_from([3, 8, 24]),
)
def test_an_affine_cast_is_taken_back_up_to_rounding(
    seed: int, gains: tuple[float, ...], shifts: tuple[float, ...], width_px: int
) -> None:
    original = _photo(seed)
    cast = np.rint(128 + (original - 128.0) / gains - shifts).astype(np.uint8)
    matched = match_ring(original, cast, _mask(), width_px=width_px)
    # The cast is rounded, and what is brought back once more.
    assert np.abs(matched.astype(int) - original).max() <= 2
    assert np.abs(matched.mean((0, 1)) - original.mean((0, 1))).max() < 0.3


def test_an_equal_edit_stays_byte_for_byte() -> None:
    photo = _photo(0)
    np.testing.assert_array_equal(match_ring(photo, photo.copy(), _mask(), width_px=5), photo)


def test_an_edit_that_equals_the_photo_on_the_ring_keeps_its_middle() -> None:
    photo, edited = _photo(0), _photo(0)
    edited[40:60, 40:60] = 250
    np.testing.assert_array_equal(match_ring(photo, edited, _mask(), width_px=5), edited)


def test_a_third_of_the_ring_changed_on_purpose_does_not_count() -> None:
    original = _photo(1)
    edited = (original - 10).astype(np.uint8)
    changed = original.copy()
    changed[:, :40] = 230  # What the fill takes away.
    matched = match_ring(changed, edited, _mask(), width_px=6)
    assert np.abs(matched.astype(int) - original).max() <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), width_px=st.integers(1, 200))
def test_no_edit_changes_beyond_the_bounds(seed: int, width_px: int) -> None:
    chance = np.random.default_rng(seed)
    original, edited = (
        chance.integers(*sorted(chance.choice(257, 2, replace=False)), (40, 50, 3), dtype=np.uint8)
        for _ in range(2)
    )
    mask = gaussian_filter(chance.standard_normal((40, 50)), 4) > 0
    change = match_ring(original, edited, mask, width_px=width_px).astype(int) - edited
    assert np.abs(change).max() <= MAX_SHIFT + (GAINS[1] - 1) * 255 + 1


def test_new_texture_keeps_its_contrast_and_takes_the_mean() -> None:
    original, edited = _photo(3, noise=5), _photo(4, noise=25)
    edited = edited - np.uint8(12)
    matched = match_ring(original, edited, _mask(), width_px=10).astype(float)
    ring = _mask()
    ring[30:70, 26:80] = False
    assert matched.std() == pytest.approx(edited.std(), rel=0.1)
    assert np.abs(matched[ring].mean(0) - original[ring].mean(0)).max() < 2.5


def test_what_blur_took_from_a_photo_is_not_made_up_for_by_contrast() -> None:
    # As in photos, every scale has the same share of the variance.
    noise = np.random.default_rng(8).standard_normal((5, SIDE, SIDE, 3))
    scales = [gaussian_filter(plane, (2**i, 2**i, 0)) for i, plane in enumerate(noise)]
    original = np.clip(128 + sum(12 * plane / plane.std() for plane in scales), 0, 255)
    blurred = np.rint(gaussian_filter(original, (1.5, 1.5, 0))).astype(np.uint8)
    matched = match_ring(original.astype(np.uint8), blurred, _mask(), width_px=12)
    assert abs(matched.std() / blurred.std() - 1) < 0.1
    assert original.std() / blurred.std() > 1.15


def test_a_cast_is_taken_back_outside_the_mask_too() -> None:
    original = _photo(5)
    matched = match_ring(original, original + np.uint8(9), _mask(), width_px=4)
    np.testing.assert_array_equal(matched, original)


def test_without_a_ring_the_edit_stays() -> None:
    original, edited = _photo(6), _photo(7)
    for mask in (np.ones((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)):
        np.testing.assert_array_equal(match_ring(original, edited, mask, width_px=4), edited)


def test_unusable_arguments_are_refused() -> None:
    photo = _photo(0)
    with pytest.raises(ValueError, match="width_px is 0"):
        match_ring(photo, photo, _mask(), width_px=0)
    with pytest.raises(ValueError, match="differ in size"):
        match_ring(photo, photo[:9], _mask(), width_px=2)
