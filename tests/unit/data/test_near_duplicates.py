import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.data.near_duplicates import find_near_duplicates, perceptual_hash
from neural_photo_editor.data.synthetic_portraits import generate_portrait


def _reference_groups(hashes: list[int], max_distance: int) -> list[tuple[int, ...]]:
    """Connected components by comparing all pairs."""
    groups = [{position} for position in range(len(hashes))]
    for a, b in combinations(range(len(hashes)), 2):
        if (hashes[a] ^ hashes[b]).bit_count() <= max_distance:
            merged = groups[a] | groups[b]
            for member in merged:
                groups[member] = merged
    return sorted({tuple(sorted(group)) for group in groups if len(group) > 1})


def _flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


_BITS = st.lists(st.integers(0, 63), max_size=6, unique=True)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), _BITS), max_size=12),
    st.integers(0, 8),
)
def test_groups_are_those_of_comparing_all_pairs(
    drawn: list[tuple[int, list[int]]], max_distance: int
) -> None:
    hashes = [_flip(value, bits) for value, bits in drawn]
    found = find_near_duplicates(np.array(hashes, dtype=np.uint64), max_distance=max_distance)
    assert found == _reference_groups(hashes, max_distance)


def test_every_planted_pair_is_found_among_many_hashes() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, 20_000, dtype=np.uint64)
    planted = []
    for number in range(200):
        distance = number % 6
        bits = generator.choice(64, distance, replace=False).tolist()
        hashes[10_000 + number] = _flip(int(hashes[number]), bits)
        if distance <= 4:
            planted.append((number, 10_000 + number))
    assert find_near_duplicates(hashes) == planted


def test_distances_it_cannot_search_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_distance must be in 0\.\.8, not 9"):
        find_near_duplicates(np.zeros(2, dtype=np.uint64), max_distance=9)


def _distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


def test_another_encoding_or_size_is_near_and_another_portrait_is_far() -> None:
    photos = [generate_portrait(3, index, resolution=64).photo for index in range(20)]
    for photo in photos:
        image, buffer = Image.fromarray(photo), io.BytesIO()
        image.save(buffer, format="JPEG", quality=70)
        with Image.open(buffer) as encoded:
            assert _distance(photo, np.array(encoded)) <= 4
        assert _distance(photo, np.array(image.resize((48, 48)))) <= 4
        assert _distance(photo, (photo * 0.9).astype(np.uint8)) <= 4
    assert min(_distance(a, b) for a, b in combinations(photos, 2)) > 4


def test_the_hash_is_that_of_the_textbook() -> None:
    # A checkerboard of half-period 16 is, after shrinking, a product of two square waves: only
    # coefficients with two odd frequencies differ from 0.
    photo = np.zeros((64, 64, 3), dtype=np.uint8)
    photo[:32, :32] = photo[32:, 32:] = 200
    gray = photo[::2, ::2, 0].astype(float)
    expected = 0
    coefficients = [
        sum(
            gray[y, x] * np.cos(np.pi * u * (2 * y + 1) / 64) * np.cos(np.pi * v * (2 * x + 1) / 64)
            for y in range(32)
            for x in range(32)
        )
        for u in range(8)
        for v in range(8)
    ]
    median = np.median(np.round(coefficients))
    for coefficient in coefficients:
        expected = expected << 1 | int(round(coefficient) > median)
    assert perceptual_hash(photo) == expected
    assert expected.bit_count() == 9  # the mean and the positive ones of 16


def test_flat_photos_have_one_hash() -> None:
    hashes = {
        perceptual_hash(np.full((40, 30, 3), value, dtype=np.uint8)) for value in (1, 77, 255)
    }
    assert hashes == {1 << 63}
