"""Gradient-domain blending: the edit's details, with the photo's colors where they meet."""

import numpy as np

from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.masks import Mask, bounding_box
from neural_photo_editor.imaging.membrane import membrane_equations


def blend_gradients(original: Photo, edited: Photo, mask: Mask) -> Photo:
    """Poisson image editing (Perez, Gangnet and Blake, SIGGRAPH 2003, Eq. 2 and 7).

    Inside the mask the result f has the gradients of the edit g; on the pixels around the mask it
    meets the photo f*. The photo's border is a Neumann border. Solved in the equivalent form

        f = g + membrane,   membrane harmonic in the mask and f* - g around it,

    to the accuracy stated in :mod:`neural_photo_editor.imaging.membrane`. Parts of the mask that
    no other pixel touches (the mask is the whole photo) hold the edit itself.

    A difference of color along the mask's border is spread over all of the mask. This hides
    the seam of a fill or a retouch, whose colors are meant to go on; where the edit is a new
    color, as for hair, it would bleed the old color in: use
    :func:`~neural_photo_editor.imaging.compositing.composite` there.

    Args:
        original: the photo, uint8, (H, W, 3).
        edited: the edit, as the photo; read inside the mask and one pixel around it.
        mask: bool, (H, W); True = edit.

    Returns:
        A new photo, uint8, (H, W, 3); outside the mask the photo's bytes.

    Raises:
        ValueError: the sizes differ.
    """
    if original.shape != edited.shape or original.shape[:2] != mask.shape:
        raise ValueError(
            f"photo {original.shape}, edit {edited.shape} and mask {mask.shape} differ in size"
        )
    result = np.array(original, order="C")
    box = bounding_box(mask)
    if box is None:
        return result
    # The mask's box and a pixel around it, where that is inside the photo, decide everything.
    window = np.s_[max(box[0] - 1, 0) : box[2] + 1, max(box[1] - 1, 0) : box[3] + 1]
    inner, photo, edit = mask[window], original[window], edited[window]
    equations = membrane_equations(inner)
    around = np.unravel_index(equations.neighbors, inner.shape)
    membrane = equations.solve(photo[around].astype(np.float64) - edit[around])
    for rows, strip in membrane.strips():
        values = strip + edit[rows]
        np.rint(values, out=values)
        np.clip(values, 0.0, 255.0, out=values)
        # A pixel's three bytes as one element: many times faster than a mask for each byte.
        blended, target = (
            pixels.view("V3")[..., 0] for pixels in (values.astype(np.uint8), result[window][rows])
        )
        np.copyto(target, blended, where=inner[rows])
    return result
