"""From the square the model edited to the photo: detail, colors, and the way into the photo.

Everything happens in the mask's bounding box, in bands of rows: a photo of many megapixels is
never turned into floats as a whole, and the result is its one copy.
"""

import numpy as np
import torch
from torch import Tensor

from neural_photo_editor.editing.preparation import PreparedEdit
from neural_photo_editor.editing.windows import bands, grow, intersect, rows_and_columns, shift
from neural_photo_editor.imaging.color_matching import match_ring
from neural_photo_editor.imaging.compositing import Photo, composite
from neural_photo_editor.imaging.edit_transfer import color_change
from neural_photo_editor.imaging.geometry import Box, put_back
from neural_photo_editor.imaging.gradient_blending import blend_gradients
from neural_photo_editor.imaging.masks import MAX_FEATHER_PX, Mask, mask_coverage
from neural_photo_editor.imaging.structure import structure_change
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo

TRANSFER_WINDOW = 1 / 4
"""Side of the windows in which a color change is fitted, as a share of the square's side."""

RING = 1 / 32
"""Width of the ring around a mask whose colors an edit takes up, as a share of the square's."""

_BAND_ROWS = 512


def finish_edit(
    photo: Photo, edit: PreparedEdit, *, square: Tensor, enlarged: Tensor | None
) -> Photo:
    """Put an edited square into its photo; outside the mask the photo stays as it is.

    Pixels that a strength map keeps are the paint itself, whatever detail and blend are: the edit
    meets them as it meets the photo around the mask.

    Args:
        photo: the photo, uint8, (H, W, 3).
        edit: what was asked for.
        square: the edited square, float, (1, 3, R, R), in [-1, 1].
        enlarged: the same after the upscaler, (1, 3, S, S); not read where detail is "photo".

    Returns:
        A new photo, uint8, (H, W, 3).
    """
    height, width = photo.shape[:2]
    ring_px = max(1, round(RING * edit.crop.side))
    matches = edit.is_fill or edit.blend == "gradient"
    # A soft edge looks one pixel beyond the mask, to see where the mask ends.
    window = grow(edit.box, ring_px if matches else 1, within=(0, 0, height, width))
    original, mask = photo[rows_and_columns(window)], edit.mask[rows_and_columns(window)]
    edited = _edited_pixels(original, window, edit, square=square, enlarged=enlarged)
    kept = None if edit.kept is None else _kept_pixels(window, edit)
    to_edit = mask
    if kept is not None:
        painted = _painted(window, original, edit)
        original = np.where(kept[..., None], painted, original)
        to_edit = mask & ~kept
    if matches:
        edited = match_ring(original, edited, to_edit, width_px=ring_px)
    if edit.blend == "gradient":
        blended = blend_gradients(original, edited, to_edit)
    else:
        if kept is not None:
            edited = composite(painted, edited, ~kept, feather_px=min(ring_px, MAX_FEATHER_PX))
        blended = composite(original, edited, mask, feather_px=edit.feather_px)
    result = photo.copy()
    result[rows_and_columns(window)] = blended
    return result


def _kept_pixels(window: Box, edit: PreparedEdit) -> Mask:
    """Return which pixels of a window around the mask's box a strength map keeps."""
    kept = np.zeros((window[2] - window[0], window[3] - window[1]), dtype=bool)
    kept[rows_and_columns(shift(edit.box, rows=-window[0], columns=-window[1]))] = edit.kept
    return kept


def _edited_pixels(
    original: Photo, window: Box, edit: PreparedEdit, *, square: Tensor, enlarged: Tensor | None
) -> Photo:
    """Return the edit at the photo's size, as far as the square shows the window."""
    shown = intersect(window, edit.crop.box)
    edited = np.empty_like(original) if shown == window else original.copy()
    layers = _Layers(edit, square=square, enlarged=enlarged)
    for band in bands(shown, height=_BAND_ROWS):
        inside = rows_and_columns(shift(band, rows=-window[0], columns=-window[1]))
        edited[inside] = tensor_to_photo(layers.pixels(band, original[inside]))
    return edited


class _Layers:
    """An edit as the photo's own detail, as the models' detail, and what share each has."""

    def __init__(self, edit: PreparedEdit, *, square: Tensor, enlarged: Tensor | None) -> None:
        self._edit = edit
        self._enlarged = None if edit.detail == "photo" else enlarged
        self._fields: Tensor | None = None
        self._largest = 1.0
        if edit.detail != "model":
            self._fields = _color_fields(edit, square.float().cpu())
            # Squares are read in [-1, 1]: see put_back.
            self._largest = max(float(self._fields.abs().max()), 1.0)
            self._fields /= self._largest

    def pixels(self, band: Box, original: Photo) -> Tensor:
        """Return the edit in a band of the photo, float, (1, 3, h, w), in [-1, 1].

        Args:
            band: in pixels of the photo.
            original: the photo there, uint8, (h, w, 3).
        """
        drawn = None
        if self._enlarged is not None:
            drawn = put_back(self._enlarged, self._edit.crop, band)
        if self._fields is None:
            assert drawn is not None
            return drawn
        fields = put_back(self._fields, self._edit.crop, band).mul_(self._largest)
        own = photo_to_tensor(_painted(band, original, self._edit))
        own.add_(fields[:, :3]).clamp_(-1.0, 1.0)
        return own if drawn is None else own.lerp_(drawn, fields[:, 3:].clamp_(0.0, 1.0))


def _painted(window: Box, original: Photo, edit: PreparedEdit) -> Photo:
    """Return the painted photo in a window, of which ``original`` is the photo."""
    box = edit.box
    common = intersect(window, box)
    assert edit.painted is not None
    here = rows_and_columns(shift(common, rows=-box[0], columns=-box[1]))
    if common == window:
        return edit.painted[here]
    # Paint lies in the mask's box only.
    painted = original.copy()
    if common[0] < common[2] and common[1] < common[3]:
        there = rows_and_columns(shift(common, rows=-window[0], columns=-window[1]))
        painted[there] = edit.painted[here]
    return painted


def _color_fields(edit: PreparedEdit, after: Tensor) -> Tensor:
    """Return what the model changed, float, (1, 3 or 4, R, R).

    The change of each channel, see :func:`color_change`, and with mixed detail where there is new
    structure, 0..1.
    """
    resolution = after.shape[-1]
    before = edit.u_0.cpu()
    weight = mask_coverage(edit.mask, edit.crop, resolution=resolution)
    if edit.start is not None:
        # What stays as painted says nothing of how the rest changed.
        weight = weight * (edit.start > 0)
    fields = [
        color_change(
            before,
            after,
            weight=weight,
            radius=max(1, round(TRANSFER_WINDOW * resolution / 2)),
        )
    ]
    if edit.detail == "mixed":
        fields.append(structure_change(before, after))
    return torch.cat(fields, dim=1)
