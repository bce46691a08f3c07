import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.data.near_duplicates import (
    HASH_BYTES,
    find_near_duplicates,
    perceptual_hash,
)
from neural_photo_editor.data.synthetic_portraits import generate_portrait


def _reference_groups(
    hashes: list[int], fine: list[int], max_distance: int, max_fine: int
) -> list[tuple[int, ...]]:
    """Connected components by comparing all pairs."""
    groups = [{position} for position in range(len(hashes))]
    for a, b in combinations(range(len(hashes)), 2):
        near = (hashes[a] ^ hashes[b]).bit_count() <= max_distance
        if near and (fine[a] ^ fine[b]).bit_count() <= max_fine:
            merged = groups[a] | groups[b]
            for member in merged:
                groups[member] = merged
    return sorted({tuple(sorted(group)) for group in groups if len(group) > 1})


def _flip(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def _rows(hashes: list[int], fine: list[int]) -> NDArray[np.uint64]:
    """Put 64-bit hashes, and fine ones of which 64 bits are used, into rows of five words."""
    return np.array([[a, 0, b, 0, 0] for a, b in zip(hashes, fine, strict=True)], dtype=np.uint64)


_BITS = st.lists(st.integers(0, 63), max_size=6, unique=True)
_HASHES = st.tuples(st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), _BITS, _BITS)


@settings(deadline=None)
@given(st.lists(_HASHES, min_size=1, max_size=12), st.integers(0, 8), st.integers(0, 12))
def test_groups_are_those_of_comparing_all_pairs(
    drawn: list[tuple[int, list[int], list[int]]], max_distance: int, max_fine: int
) -> None:
    hashes = [_flip(value, bits) for value, bits, _ in drawn]
    fine = [_flip(0, bits) for _, _, bits in drawn]
    found = find_near_duplicates(
        _rows(hashes, fine), max_distance=max_distance, max_fine_distance=max_fine
    )
    assert found == _reference_groups(hashes, fine, max_distance, max_fine)


def test_every_planted_pair_is_found_among_many_hashes() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**64, (20_000, 5), dtype=np.uint64)
    planted = []
    for number in range(300):
        distance, fine_distance = number % 6, (30, 32, 34)[number // 100]
        copy = hashes[10_000 + number]
        copy[0] = _flip(int(hashes[number, 0]), generator.permutation(64)[:distance].tolist())
        copy[1:] = hashes[number, 1:]
        for bit in generator.permutation(256)[:fine_distance].tolist():
            copy[1 + bit // 64] ^= np.uint64(1 << bit % 64)
        if distance <= 4 and fine_distance <= 32:
            planted.append((number, 10_000 + number))
    assert find_near_duplicates(hashes) == planted


def test_many_similar_photos_are_one_group() -> None:
    fine = [1 << number % 64 for number in range(3000)]
    hashes = [number % 7 for number in range(3000)]
    assert find_near_duplicates(_rows(hashes, fine)) == [tuple(range(3000))]


def test_distances_it_cannot_search_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_distance must be in 0\.\.8, not 9"):
        find_near_duplicates(np.zeros((2, 5), dtype=np.uint64), max_distance=9)


def _near(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    hashes = perceptual_hash(a) + perceptual_hash(b)
    rows = np.frombuffer(hashes, dtype=">u8").reshape(2, -1)
    return find_near_duplicates(rows) == [(0, 1)]


def test_another_encoding_or_size_is_near_and_another_portrait_is_not() -> None:
    photos = [generate_portrait(3, index, resolution=64).photo for index in range(20)]
    for photo in photos:
        image, buffer = Image.fromarray(photo), io.BytesIO()
        image.save(buffer, format="JPEG", quality=70)
        with Image.open(buffer) as encoded:
            assert _near(photo, np.array(encoded))
        assert _near(photo, np.array(image.resize((48, 48))))
        assert _near(photo, (photo * 0.9).astype(np.uint8))
    assert not any(_near(a, b) for a, b in combinations(photos, 2))


def test_photos_that_agree_in_the_coarse_hash_alone_are_told_apart() -> None:
    generator = np.random.default_rng(1)
    base, detail = generator.normal(size=(16, 16)), generator.normal(size=(16, 16))
    base[8:], base[:, 8:], detail[:8, :8] = 0, 0, 0
    waves = np.cos(np.pi * np.arange(16)[:, None] * (2 * np.arange(32) + 1) / 64)
    photos = []
    for spectrum in (base + 0.3 * detail, base - 0.3 * detail):
        gray = 128 + 4 * waves.T @ spectrum @ waves
        photos.append(np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))
    coarse = [int.from_bytes(perceptual_hash(photo)[:8]) for photo in photos]
    assert (coarse[0] ^ coarse[1]).bit_count() <= 4
    assert not _near(*photos)


def test_the_hash_is_that_of_the_textbook() -> None:
    photo = np.zeros((64, 64, 3), dtype=np.uint8)
    photo[:32, :32] = photo[32:, 32:] = 200
    photo[:4, 8:20] = 90
    image = Image.fromarray(photo).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    gray = np.array(image).astype(float)
    expected = b""
    for size in (8, 16):
        coefficients = []
        for u in range(size):
            for v in range(size):
                wave = [
                    np.cos(np.pi * u * (2 * y + 1) / 64) * np.cos(np.pi * v * (2 * x + 1) / 64)
                    for y in range(32)
                    for x in range(32)
                ]
                coefficients.append(round(float(np.dot(wave, gray.ravel()))))
        ranked = sorted(coefficients)
        median = (ranked[size * size // 2 - 1] + ranked[size * size // 2]) / 2
        bits = "".join("1" if coefficient > median else "0" for coefficient in coefficients)
        expected += int(bits, 2).to_bytes(size * size // 8)
    assert perceptual_hash(photo) == expected
    assert len(expected) == HASH_BYTES


def test_flat_photos_have_one_hash() -> None:
    hashes = {
        perceptual_hash(np.full((40, 30, 3), value, dtype=np.uint8)) for value in (1, 77, 255)
    }
    (flat,) = hashes
    assert flat == b"\x80" + bytes(7) + b"\x80" + bytes(31)
