"""Gradient blending against a direct solver, its exact cases, and the quadtree it rests on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neural_photo_editor.imaging.gradient_blending import blend_gradients
from neural_photo_editor.imaging.membrane import membrane_equations
from tests.unit.imaging.membranes import direct_membrane, equations, membrane, some_mask

KINDS = st.sampled_from(["blob", "holes", "dust", "thin", "walled"])
SIDES = st.integers(2, 40)
SEEDS = st.integers(0, 999)
ALL, NONE = 10**9, 0  # Pixels to solve exactly.


def _values(height: int, width: int, *, seed: int, spread: float) -> NDArray[np.float64]:
    """Noise, a step and a wave: (H, W, 3), in -spread..spread."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    angle = chance.uniform(0, 2 * np.pi)
    along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    length = chance.uniform(1, max(height, width))
    noise = chance.uniform(-1, 1, (height, width))
    return spread * np.stack([noise, np.where(along > 0, 1, -1), np.sin(along / length)], axis=-1)


def _photo(height: int, width: int, *, seed: int, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(kind=KINDS, height=SIDES, width=SIDES, seed=SEEDS)
def test_small_masks_solve_the_equations_of_all_pixels(
    kind: str, height: int, width: int, seed: int
) -> None:
    mask = some_mask(height, width, kind=kind, seed=seed)
    values = _values(height, width, seed=seed, spread=255)
    found = membrane(mask, values, max_exact_pixels=ALL)
    matrix, right = equations(mask, values)
    remainder = np.linalg.norm(right - matrix @ found, axis=0)
    assert (remainder <= 2e-4 * np.linalg.norm(right, axis=0)).all()
    np.testing.assert_allclose(found, direct_membrane(mask, values), atol=0.25)


@settings(max_examples=40, deadline=None)
@given(kind=KINDS, height=SIDES, width=SIDES, seed=SEEDS)
def test_blocks_err_by_less_than_two_percent_of_the_range(
    kind: str, height: int, width: int, seed: int
) -> None:
    mask = some_mask(height, width, kind=kind, seed=seed)
    values = _values(height, width, seed=seed, spread=12.5)
    found = membrane(mask, values, max_exact_pixels=NONE)
    assert np.abs(found - direct_membrane(mask, values)).max() < 0.5


@pytest.mark.parametrize("kind", ["blob", "walled", "holes"])
def test_blocks_of_many_sizes_agree_with_single_pixels(kind: str) -> None:
    height, width = 301, 398
    mask = some_mask(height, width, kind=kind, seed=1)
    values = _values(height, width, seed=2, spread=25)
    found = membrane(mask, values, max_exact_pixels=NONE)
    assert np.abs(found - membrane(mask, values, max_exact_pixels=ALL)).max() < 0.5


def test_a_medium_mask_solved_pixel_by_pixel_agrees_with_a_direct_solver() -> None:
    mask = some_mask(120, 150, kind="blob", seed=1)
    values = _values(120, 150, seed=2, spread=255)
    error = membrane(mask, values, max_exact_pixels=ALL) - direct_membrane(mask, values)
    assert np.abs(error).max() < 0.25


@settings(max_examples=40, deadline=None)
@given(kind=KINDS, height=SIDES, width=SIDES, seed=SEEDS)
def test_blocks_cover_the_mask_once_and_neighbors_differ_by_a_factor_of_two(
    kind: str, height: int, width: int, seed: int
) -> None:
    mask = some_mask(height, width, kind=kind, seed=seed)
    levels = membrane_equations(mask, max_exact_pixels=NONE).levels
    covered = np.zeros(mask.shape, dtype=int)
    sizes = np.zeros(mask.shape, dtype=int)
    for number, level in enumerate(levels):
        for row, column in zip(level.rows << number, level.columns << number, strict=True):
            block = np.s_[row : row + 2**number, column : column + 2**number]
            covered[block] += 1
            sizes[block] = number
    assert (covered == mask).all()
    for axis in (0, 1):
        both = np.take(mask, range(1, mask.shape[axis]), axis) & np.take(
            mask, range(mask.shape[axis] - 1), axis
        )
        assert np.abs(np.diff(sizes, axis=axis))[both].max(initial=0) <= 1


@settings(max_examples=40, deadline=None)
@given(kind=KINDS, height=SIDES, width=SIDES, seed=SEEDS)
def test_the_result_is_the_edit_and_the_membrane_rounded(
    kind: str, height: int, width: int, seed: int
) -> None:
    mask = some_mask(height, width, kind=kind, seed=seed)
    original, edited = (_photo(height, width, seed=seed + number) for number in (0, 1))
    result = blend_gradients(original, edited, mask)
    assert (result[~mask] == original[~mask]).all()
    exact = edited[mask] + direct_membrane(mask, original.astype(float) - edited)
    assert np.abs(result[mask] - np.clip(exact, 0, 255)).max() < 0.75  # 0.5 are the rounding.


def test_a_constant_and_a_linear_offset_vanish() -> None:
    # 280 x 280 pixels are divided into blocks.
    original = _photo(300, 320, seed=0, low=90, high=160)
    mask = np.zeros((300, 320), dtype=bool)
    mask[10:290, 20:300] = True
    assert (blend_gradients(original, original + np.uint8(40), mask) == original).all()
    ramp = np.rint(np.arange(320) / 4).astype(np.uint8)[None, :, None]
    difference = blend_gradients(original, original + ramp, mask) - original.astype(int)
    assert np.abs(difference).max() <= 1


def test_the_edits_details_stay_and_its_color_follows_the_photo() -> None:
    original = np.full((64, 64, 3), (200, 120, 60), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    edited = np.full_like(original, 100)
    edited[24:40, 24:40] += 30
    expected = original.copy()
    expected[24:40, 24:40] += 30
    np.testing.assert_array_equal(blend_gradients(original, edited, mask), expected)


def test_a_mask_of_the_whole_photo_holds_the_edit() -> None:
    original, edited = _photo(20, 30, seed=0), _photo(20, 30, seed=1)
    everything = np.ones((20, 30), dtype=bool)
    np.testing.assert_array_equal(blend_gradients(original, edited, everything), edited)
    large = np.zeros((300, 300, 3), dtype=np.uint8)
    kept = blend_gradients(large, large + np.uint8(9), np.ones((300, 300), dtype=bool))
    assert (kept == 9).all()


def test_an_empty_mask_copies_the_photo() -> None:
    original = _photo(8, 9, seed=0)
    result = blend_gradients(original, _photo(8, 9, seed=1), np.zeros((8, 9), dtype=bool))
    assert (result == original).all()
    assert not np.shares_memory(result, original)


def test_only_the_mask_and_the_pixels_around_it_are_read_from_the_edit() -> None:
    original, edited = _photo(40, 40, seed=0), _photo(40, 40, seed=1)
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 12:30] = True
    other = _photo(40, 40, seed=2)
    other[9:21, 11:31] = edited[9:21, 11:31]
    np.testing.assert_array_equal(
        blend_gradients(original, edited, mask), blend_gradients(original, other, mask)
    )


def test_photos_may_be_views_in_any_order() -> None:
    original, edited = _photo(30, 40, seed=0), _photo(30, 40, seed=1)
    mask = some_mask(30, 40, kind="blob", seed=0)
    expected = blend_gradients(original, edited, mask)
    views = (np.asfortranarray(image)[::1] for image in (original, edited))
    np.testing.assert_array_equal(blend_gradients(*views, np.asfortranarray(mask)), expected)


def test_different_sizes_are_refused() -> None:
    photo = _photo(8, 9, seed=0)
    with pytest.raises(ValueError, match="differ in size"):
        blend_gradients(photo, photo[:4], np.ones((8, 9), dtype=bool))
