"""Putting an edit into the photo without touching a byte outside the mask."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.imaging.masks import Mask, bounding_box, feather_tiles

Photo = NDArray[np.uint8]

_BAND_ROWS = 32  # painted at once: stays within the processor's cache


def composite(original: Photo, edited: Photo, mask: Mask, *, feather_px: int) -> Photo:
    """Blend the edit into the photo; outside the mask the result equals the photo, byte for byte.

    Args:
        original: the photo, uint8, (H, W, 3).
        edited: the edit, as the photo; read inside the mask only.
        mask: bool, (H, W); True = edit.
        feather_px: width of the blend inside the mask, see :func:`feather_inside`.

    Returns:
        A new photo, uint8, (H, W, 3).

    Raises:
        ValueError: the sizes differ.
    """
    if original.shape != edited.shape or original.shape[:2] != mask.shape:
        raise ValueError(
            f"photo {original.shape}, edit {edited.shape} and mask {mask.shape} differ in size"
        )
    result = original.copy()
    for tile, opacity in feather_tiles(mask, radius_px=feather_px):
        if opacity is None:
            result[tile] = edited[tile]
        else:
            below = original[tile].astype(np.float32)
            result[tile] = np.rint(below + opacity[..., None] * (edited[tile] - below))
    return result


def paint_over(photo: Photo, strokes: NDArray[np.uint8]) -> Photo:
    """Blend strokes, uint8 (H, W, 4) with straight alpha, over a photo, uint8 (H, W, 3)."""
    painted = photo.copy()
    for top in range(0, photo.shape[0], _BAND_ROWS):
        band = np.s_[top : top + _BAND_ROWS]
        box = bounding_box(strokes[band, :, 3] > 0)
        if box is None:
            continue
        window = np.s_[top + box[0] : top + box[2], box[1] : box[3]]
        below, above = photo[window], strokes[window]
        alpha = above[..., 3:].astype(np.float32) / 255.0
        painted[window] = np.rint(below + alpha * (above[..., :3].astype(np.float32) - below))
    return painted
