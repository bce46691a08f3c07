"""Putting an edit into the photo without touching a byte outside the mask."""

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.imaging.masks import Mask, feather_inside

Photo = NDArray[np.uint8]


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
    opacity = feather_inside(mask, radius_px=feather_px)[mask][:, None]
    result = original.copy()
    below, above = original[mask].astype(np.float32), edited[mask].astype(np.float32)
    result[mask] = np.rint(below + opacity * (above - below)).astype(np.uint8)
    return result


def paint_over(photo: Photo, strokes: NDArray[np.uint8]) -> Photo:
    """Blend strokes, uint8 (H, W, 4) with straight alpha, over a photo, uint8 (H, W, 3)."""
    alpha = strokes[..., 3:].astype(np.float32) / 255.0
    blended = photo + alpha * (strokes[..., :3].astype(np.float32) - photo)
    painted: Photo = np.rint(blended).astype(np.uint8)
    return painted
