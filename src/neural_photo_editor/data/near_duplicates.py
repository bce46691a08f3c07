"""Near-duplicate photos: a perceptual hash, and a search that does not compare all pairs."""

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.data.transforms import Pixels

HASH_BYTES = 40  # 8 of the coarse hash, 32 of the fine one
MAX_DISTANCE = 4  # bits of 64
MAX_FINE_DISTANCE = 32  # bits of 256
_SIDE = 32


def _cosines(num_frequencies: int) -> NDArray[np.float64]:
    """Return the lowest vectors of the discrete cosine transform (DCT-II), (F, 32)."""
    frequency, position = np.arange(num_frequencies)[:, None], np.arange(_SIDE)
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE))


_COSINES = _cosines(16)


def perceptual_hash(photo: Pixels) -> bytes:
    """Hash a photo's look to 40 bytes: pHash, the signs of its lowest cosine coefficients, twice.

    The photo is made gray and shrunk to 32x32 pixels; bit i tells whether the i-th of the 8x8
    lowest coefficients lies above their median (Zauner 2010, "Implementation and Benchmarking of
    Perceptual Image Hash Functions", section 3.2.1). Another encoding, size or brightness
    changes few bits, another photo about half of them. Of millions of pairs of portraits in the
    same pose some agree by chance, so the 16x16 lowest coefficients follow, hashed alike.

    Args:
        photo: uint8 (H, W, 3), RGB.
    """
    gray = Image.fromarray(photo).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    # Rounded, so that a flat photo's coefficients are 0 and not the noise of floating point.
    coefficients = np.rint(_COSINES @ np.asarray(gray, dtype=np.float64) @ _COSINES.T)
    return _signs(coefficients[:8, :8]) + _signs(coefficients)


def find_near_duplicates(
    hashes: NDArray[np.uint64],
    *,
    max_distance: int = MAX_DISTANCE,
    max_fine_distance: int = MAX_FINE_DISTANCE,
) -> list[tuple[int, ...]]:
    """Group the positions of hashes that differ in few bits.

    Two coarse hashes that differ in at most d bits agree in three or more whole bands when 64
    bits are cut into d + 3 bands. So for each three bands the hashes are sorted by these bands'
    bits, and only those that agree there are compared: 35 sorts and few comparisons instead of
    N * N / 2.

    Args:
        hashes: uint64 (N, 5), a row the big-endian words of a `perceptual_hash`.
        max_distance: bits in which the coarse hashes of two neighbors of a group differ at most,
            0..8. Groups are chains of neighbors, so the ends of a long one may differ in more.
        max_fine_distance: bits in which their fine hashes differ at most, 0..256.

    Returns:
        Groups of two or more positions, each ascending, ordered by their first.
    """
    if not 0 <= max_distance <= 8:
        raise ValueError(f"max_distance must be in 0..8, not {max_distance}")
    # Equal hashes are one item below: a thousand copies of a photo are not a million pairs.
    distinct, inverse = np.unique(hashes, axis=0, return_inverse=True)
    roots = np.arange(len(distinct))
    for first, second in _close_pairs(np.ascontiguousarray(distinct[:, 0]), max_distance):
        new = roots[first] != roots[second]
        first, second = first[new], second[new]
        near = _distances(distinct[first, 1:], distinct[second, 1:]) <= max_fine_distance
        if near.any():
            roots = _join(roots, first[near], second[near])
    groups: dict[int, list[int]] = {}
    for position, root in enumerate(roots[inverse.ravel()].tolist()):
        groups.setdefault(root, []).append(position)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _signs(coefficients: NDArray[np.float64]) -> bytes:
    return np.packbits(coefficients > np.median(coefficients)).tobytes()


def _distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return in how many bits the rows of (N, W) differ, (N,)."""
    distances: NDArray[np.int64] = np.bitwise_count(a ^ b).sum(axis=1, dtype=np.int64)
    return distances


def _join(
    roots: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Merge the groups of `first` and `second`; a group's root is its lowest member."""
    parents = roots.tolist()

    def root_of(item: int) -> int:
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        root_a, root_b = root_of(a), root_of(b)
        parents[max(root_a, root_b)] = min(root_a, root_b)
    joined = np.array(parents)
    while not np.array_equal(joined, joined[joined]):
        joined = joined[joined]
    return joined


def _close_pairs(
    hashes: NDArray[np.uint64], max_distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of positions whose hashes differ in few bits; a pair may come more than once."""
    for mask in _masks(max_distance + 3):
        banded = hashes & mask
        order = np.argsort(banded, kind="stable")
        banded, candidates = banded[order], np.arange(len(hashes))
        # Compare each item with its next neighbor of equal bands, then with the one after ...
        for step in range(1, len(hashes)):
            candidates = candidates[candidates + step < len(hashes)]
            candidates = candidates[banded[candidates] == banded[candidates + step]]
            if not candidates.size:
                break
            first, second = order[candidates], order[candidates + step]
            close = np.bitwise_count(hashes[first] ^ hashes[second]) <= max_distance
            yield first[close], second[close]


def _masks(num_bands: int) -> list[np.uint64]:
    """Return for each three of the bands the mask of their bits."""
    edges = [64 * band // num_bands for band in range(num_bands + 1)]
    bands = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    return [np.uint64(a | b | c) for a, b, c in combinations(bands, 3)]
