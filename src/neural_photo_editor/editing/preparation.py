"""From a request and its photo to what the diffusion model needs: mask, paint, square, plans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.api.codec import (
    DecodedPhoto,
    ImageLimits,
    decode_mask,
    decode_photo,
    decode_strokes,
)
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import Blend, DetailSource, EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.face_finding import (
    Alignment,
    Face,
    choose_face,
    choose_work_square,
)
from neural_photo_editor.editing.face_regions import Segment, mark_regions
from neural_photo_editor.editing.planning import (
    choose_blend,
    choose_detail,
    plan_edit,
    plan_starts,
)
from neural_photo_editor.editing.windows import rows_and_columns
from neural_photo_editor.imaging.compositing import Photo, paint_over
from neural_photo_editor.imaging.edit_transfer import LUMA
from neural_photo_editor.imaging.geometry import Box, SquareCrop, cut_out
from neural_photo_editor.imaging.masks import Mask, bounding_box, mask_to_model
from neural_photo_editor.imaging.recoloring import recolor

REGION_FEATHER_PX = 1
"""Soft edge of masks that are regions: theirs are real edges, and a rim left as it was shows."""


@dataclass(frozen=True)
class PreparedEdit:
    """One edit, ready for the model.

    Attributes:
        mask: bool, (H, W), of the whole photo.
        box: the mask's bounding box.
        face: the face the square was chosen for, if any was found.
        crop: the square of the photo the model works on.
        plans: start, steps, sampler and seed of each variation.
        strength: the plans' start on the 0..1 scale.
        detail: where the result's fine detail comes from: "photo", "model" or "mixed".
        blend: how it is put into the photo: "feather" or "gradient".
        feather_px: width of the soft edge inside the mask, in pixels of the photo.
        painted: the photo with its paint, uint8, within ``box``, where its pixels are to stay.
        x_0, u_0: the square of the photo and of the painted photo, float, (1, 3, R, R).
        model_mask: bool, (1, 1, R, R).
        start: timestep at which each pixel joins, int64, (1, 1, R, R), or None: all at once.
        kept: where a strength map keeps the paint, bool, within ``box``, or None: nowhere.
    """

    mask: Mask
    box: Box
    face: Face | None
    crop: SquareCrop
    plans: tuple[EditPlan, ...]
    strength: float
    detail: DetailSource
    blend: Blend
    feather_px: int
    painted: Photo | None
    x_0: Tensor
    u_0: Tensor
    model_mask: Tensor
    start: Tensor | None
    kept: Mask | None

    @property
    def is_fill(self) -> bool:
        """Whether nothing is painted, so that the edit is to go with the photo's own colors."""
        return self.u_0 is self.x_0

    @property
    def needs_surroundings(self) -> bool:
        """Whether the edited square is to show what the model makes of the photo around the mask.

        Blending gradients then corrects what is wrong on both sides of the border alike.
        """
        return self.blend == "gradient" and self.detail == "model"


def prepare_edit(
    request: EditRequest,
    photo: DecodedPhoto,
    *,
    faces: Sequence[Face],
    segment: Segment,
    alignment: Alignment,
    schedule: NoiseSchedule,
    defaults: ServingDefaults,
    limits: ImageLimits,
    resolution: int,
) -> PreparedEdit:
    """Turn a request into a :class:`PreparedEdit`.

    Args:
        faces: those in the photo, the largest first.
        segment: labels squares of the photo.
        alignment: where training portraits show the face.

    Raises:
        RequestError: 422 when something in the request does not fit the photo or the schedule.
    """
    plans, strength = plan_edit(request, schedule=schedule, defaults=defaults)
    strokes = None
    if request.strokes is not None:
        strokes = decode_strokes(request.strokes, size=photo.size, limits=limits)
    mask = None
    if not request.regions:
        mask = _given_mask(request, size=photo.size, strokes=strokes, limits=limits)
    face = choose_face(faces, mask)
    if mask is None:
        mask = mark_regions(
            request.regions, photo.size, face=face, segment=segment, alignment=alignment
        )
    _check_strokes(strokes, mask)
    box = bounding_box(mask)
    assert box is not None  # Empty masks and absent regions were refused.
    crop = choose_work_square(*photo.size, face, alignment=alignment, must_contain=box)
    x_0 = cut_out(photo.rgb, crop, resolution=resolution)
    painted = _paint(request, photo.rgb, mask=mask, box=box, strokes=strokes)
    detail = choose_detail(request, strength=strength)
    strength_map = _strength_map(request, size=photo.size, limits=limits)
    kept = None if strength_map is None else _kept_pixels(strength_map, mask, box)
    shows_paint = detail != "model" or kept is not None
    return PreparedEdit(
        mask=mask,
        box=box,
        face=face,
        crop=crop,
        plans=plans,
        strength=strength,
        detail=detail,
        blend=choose_blend(request, whole_photo=bool(mask.all())),
        feather_px=min(defaults.feather_px, REGION_FEATHER_PX)
        if request.regions
        else defaults.feather_px,
        painted=_cropped(painted, box, keep=painted is photo.rgb) if shows_paint else None,
        x_0=x_0,
        u_0=x_0 if painted is photo.rgb else cut_out(painted, crop, resolution=resolution),
        model_mask=mask_to_model(mask, crop, resolution=resolution),
        start=None
        if strength_map is None
        else _start_map(
            strength_map, crop, strength=strength, schedule=schedule, resolution=resolution
        ),
        kept=kept,
    )


def _given_mask(
    request: EditRequest,
    *,
    size: tuple[int, int],
    strokes: NDArray[np.uint8] | None,
    limits: ImageLimits,
) -> Mask:
    """Return the request's mask, or the painted pixels of its strokes."""
    if request.mask is None:
        assert strokes is not None  # The schema refuses requests that mark nothing.
        return strokes[..., 3] > 0
    mask: Mask = decode_mask(request.mask, size=size, limits=limits)
    return mask


def _check_strokes(strokes: NDArray[np.uint8] | None, mask: Mask) -> None:
    if strokes is not None and not (mask & (strokes[..., 3] > 0)).any():
        raise RequestError(
            422,
            "no stroke lies inside the mask",
            field="strokes",
            remedy="paint inside the mask, or send the strokes alone: they are a mask themselves",
        )


def _paint(
    request: EditRequest,
    photo: Photo,
    *,
    mask: Mask,
    box: Box,
    strokes: NDArray[np.uint8] | None,
) -> Photo:
    """Return the photo with paint inside the mask; without paint, the photo itself."""
    if strokes is None and request.color is None:
        return photo
    window = rows_and_columns(box)
    painted = photo.copy()
    if strokes is not None:
        painted[window] = paint_over(photo[window], strokes[window], mask=mask[window])
    elif request.color is not None:
        red, green, blue = bytes.fromhex(request.color[1:])
        painted[window] = recolor(photo[window], mask[window], (red, green, blue))
    return painted


def _cropped(painted: Photo, box: Box, *, keep: bool) -> Photo:
    """Return the photo within a box: a view of one that is kept anyway, else a copy of its own."""
    window = painted[rows_and_columns(box)]
    return window if keep else window.copy()


def _strength_map(
    request: EditRequest, *, size: tuple[int, int], limits: ImageLimits
) -> Photo | None:
    if request.strength_map is None:
        return None
    given = decode_photo(request.strength_map, field="strength_map", limits=limits)
    if given.size != size:
        raise RequestError(
            422,
            f"the strength map measures {given.size[1]} x {given.size[0]} pixels, "
            f"the photo {size[1]} x {size[0]} (after its EXIF rotation)",
            field="strength_map",
            remedy=f"send a strength map of exactly {size[1]} x {size[0]} pixels",
        )
    return given.rgb


def _start_map(
    strength_map: Photo,
    crop: SquareCrop,
    *,
    strength: float,
    schedule: NoiseSchedule,
    resolution: int,
) -> Tensor:
    """Return the timestep at which each pixel of the square joins."""
    square = cut_out(strength_map, crop, resolution=resolution)
    gray = (square * square.new_tensor(LUMA).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    return plan_starts((gray + 1.0) / 2.0, strength=strength, schedule=schedule)


def _kept_pixels(strength_map: Photo, mask: Mask, box: Box) -> Mask | None:
    """Return which masked pixels within a box are black in the map, None if there are none."""
    window = rows_and_columns(box)
    kept: Mask = mask[window] & ~strength_map[window].any(axis=-1)
    return kept if kept.any() else None
