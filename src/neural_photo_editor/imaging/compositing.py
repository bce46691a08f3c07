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


def paint_over(photo: Photo, strokes: NDArray[np.uint8], *, mask: Mask | None = None) -> Photo:
    """Blend strokes into a photo.

    Args:
        photo: uint8, (H, W, 3).
        strokes: uint8, (H, W, 4), with straight alpha.
        mask: bool, (H, W): where strokes count; absent, everywhere.

    Returns:
        A new photo, uint8, (H, W, 3).
    """
    painted = photo.copy()
    for top in range(0, photo.shape[0], _BAND_ROWS):
        band = np.s_[top : top + _BAND_ROWS]
        opacity = strokes[band, :, 3]
        if mask is not None:
            opacity = opacity * mask[band]
        box = bounding_box(opacity > 0)
        if box is None:
            continue
        rows, columns = slice(top + box[0], top + box[2]), slice(box[1], box[3])
        below, above = photo[rows, columns], strokes[rows, columns, :3].astype(np.float32)
        alpha = opacity[box[0] : box[2], columns, None].astype(np.float32) / 255.0
        painted[rows, columns] = np.rint(below + alpha * (above - below))
    return painted
