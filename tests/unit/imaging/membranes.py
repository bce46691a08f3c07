"""Masks of all kinds, and the membrane over them by a direct solver, pixel by pixel."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from neural_photo_editor.imaging.masks import Mask
from neural_photo_editor.imaging.membrane import membrane_equations


def some_mask(height: int, width: int, *, kind: str, seed: int) -> Mask:
    """Return a mask with at least one pixel on either side."""
    chance = np.random.default_rng(seed)
    noise = chance.standard_normal((height, width))
    if kind == "blob":  # May touch the photo's border.
        mask = ndimage.gaussian_filter(noise, max(height, width) / 6) > 0
    elif kind == "holes":
        mask = chance.random((height, width)) > 0.01
    elif kind == "dust":
        mask = chance.random((height, width)) > 0.6
    elif kind == "thin":
        mask = ndimage.gaussian_filter(noise, 3)
        mask = np.abs(mask) < 0.15 * mask.std()
    elif kind == "walled":  # A wide part along the photo's borders.
        mask = np.ones((height, width), dtype=np.bool_)
        mask[height // 2 :, : width // 3] = False
    else:
        raise ValueError(kind)
    mask[0, 0], mask[-1, -1] = True, False
    return mask


def equations(
    mask: Mask, values: NDArray[np.float64]
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Perez, Gangnet and Blake, Eq. 7: the matrix and right side for all pixels of the mask.

    values: (H, W, channels), read outside the mask.
    """
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    matrix = sparse.lil_array((mask.sum(), mask.sum()))
    right = np.zeros((mask.sum(), values.shape[2]))
    for row, column in np.argwhere(mask):
        own = number[row, column]
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if not (0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]):
                continue
            matrix[own, own] += 1
            if mask[near]:
                matrix[own, number[near]] -= 1
            else:
                right[own] += values[near]
    return matrix.tocsr(), right


def direct_membrane(mask: Mask, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exact values in the mask, (pixels, channels)."""
    matrix, right = equations(mask, values)
    return spsolve(matrix.tocsc(), right).reshape(right.shape)


def membrane(
    mask: Mask, values: NDArray[np.float64], *, max_exact_pixels: int
) -> NDArray[np.float64]:
    """Return the values in the mask, (pixels, channels), as the library finds them."""
    system = membrane_equations(mask, max_exact_pixels=max_exact_pixels)
    solved = system.solve(values.reshape(-1, values.shape[2])[system.neighbors])
    return np.concatenate([strip.copy() for _, strip in solved.strips()])[mask].astype(np.float64)
