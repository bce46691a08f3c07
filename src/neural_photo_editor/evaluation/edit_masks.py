"""Masks of things to erase: a scratch, a mouth, a blob."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.imaging.masks import Mask

BLOB_SHARE = 0.08
"""Share of the picture that a blob covers."""

BLOB_SIGMA = 1 / 10
"""Sigma of the noise that a blob is the highest part of, as a share of the picture's side."""


def scratch_mask(labels: NDArray[np.uint8]) -> Mask:
    """Return a line across hair, forehead and cheek, a sixteenth of the picture wide."""
    rows, columns = np.nonzero(labels > 0)
    side = labels.shape[0]
    top, left = rows.min() + 0.02 * side, columns.min() + 0.1 * side
    way = np.array([0.5 * side, 0.4 * side])  # Down and to the right.
    y, x = np.mgrid[:side, :side]
    along = np.clip(((y - top) * way[0] + (x - left) * way[1]) / (way @ way), 0.0, 1.0)
    distance = np.hypot(y - top - along * way[0], x - left - along * way[1])
    mask: Mask = distance <= side / 32
    return mask


def mouth_mask(labels: NDArray[np.uint8], *, grow: float = 1.35) -> Mask:
    """Return an ellipse, ``grow`` times the mouth's half sides, at least 6 pixels.

    Raises:
        ValueError: the labels show no mouth.
    """
    rows, columns = np.nonzero(np.isin(labels, [region_id("lip"), region_id("mouth")]))
    if not rows.size:
        raise ValueError("no mouth in the label map: choose another portrait")
    half = [max(6.0, grow * (side.max() - side.min() + 1) / 2) for side in (rows, columns)]
    center = [(side.max() + side.min()) / 2 for side in (rows, columns)]
    y, x = np.ogrid[: labels.shape[0], : labels.shape[1]]
    mask: Mask = ((y - center[0]) / half[0]) ** 2 + ((x - center[1]) / half[1]) ** 2 <= 1.0
    return mask


def blob_mask(labels: NDArray[np.uint8], *, seed: int) -> Mask:
    """Return a smooth random shape, of one or more pieces, about the head.

    The highest part of blurred noise that is raised where the head is; it covers 8 % of the
    picture, whatever the seed.
    """
    height, width = labels.shape
    noise = numpy_generator("blob", seed).standard_normal((height, width))
    smooth, head = _blurred(noise), _blurred((labels > 0).astype(float))
    score = smooth / smooth.std() + 2.0 * head
    mask: Mask = score > np.quantile(score, 1.0 - BLOB_SHARE)
    return mask


def _blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply by a Gaussian's spectrum; what leaves on one side enters on the other."""
    rows, columns = (np.fft.fftfreq(side) for side in image.shape)
    sigma = BLOB_SIGMA * image.shape[0]
    squared_frequency = rows[:, None] ** 2 + columns**2
    spectrum = np.exp(-2.0 * (np.pi * sigma) ** 2 * squared_frequency)
    blurred: NDArray[np.float64] = np.fft.ifft2(np.fft.fft2(image) * spectrum).real
    return blurred
