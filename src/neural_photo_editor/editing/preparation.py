"""From a request and its photo to what the diffusion model needs: mask, paint, square, plan."""

import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, decode_mask, decode_strokes
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import MAX_EVALUATIONS, DetailSource, EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.common.regions import REGION_NAMES, region_id
from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.segmentation import LabelMap
from neural_photo_editor.imaging.compositing import Photo, paint_over
from neural_photo_editor.imaging.geometry import SquareCrop, choose_square, cut_out
from neural_photo_editor.imaging.masks import Mask, bounding_box, mask_to_model
from neural_photo_editor.imaging.recoloring import recolor
from neural_photo_editor.imaging.value_range import photo_to_tensor

FILL_STRENGTH = 1.0
"""Default strength without paint: what the mask covers is to be replaced, not kept."""

FILL_RESAMPLES = 5
"""Default number of repetitions without paint: nothing but the surroundings says what fits."""

TRANSFER_STRENGTH = 0.5
"""Up to here recoloring keeps the photo's own detail: a stronger edit is to draw new detail."""

REGION_FEATHER_PX = 1
"""Soft edge of masks that are regions: theirs are real edges, and a rim left as it was shows."""

_DRAWN_SEEDS = 2**32


@dataclass(frozen=True)
class PreparedEdit:
    """One edit, ready for the model.

    Attributes:
        mask: bool, (H, W), of the whole photo.
        crop: the square of the photo the model works on.
        plan: start, steps, sampler and seed.
        strength: the plan's start on the 0..1 scale.
        detail: where the result's fine detail comes from: "photo" or "model".
        feather_px: width of the soft edge inside the mask, in pixels of the photo.
        painted: the whole photo with its paint, uint8, (H, W, 3), where its pixels are to stay.
        x_0, u_0: the square of the photo and of the painted photo, float, (1, 3, R, R).
        model_mask: bool, (1, 1, R, R).
    """

    mask: Mask
    crop: SquareCrop
    plan: EditPlan
    strength: float
    detail: DetailSource
    feather_px: int
    painted: Photo | None
    x_0: Tensor
    u_0: Tensor
    model_mask: Tensor


def prepare_edit(
    request: EditRequest,
    photo: DecodedPhoto,
    *,
    labels: LabelMap | None,
    schedule: NoiseSchedule,
    defaults: ServingDefaults,
    limits: ImageLimits,
    resolution: int,
) -> PreparedEdit:
    """Turn a request into a :class:`PreparedEdit`; ``labels`` is needed when it names regions.

    Raises:
        RequestError: 422 when something in the request does not fit the photo or the schedule.
    """
    size = photo.size
    has_paint = request.strokes is not None or request.color is not None
    plan, strength = plan_edit(request, schedule=schedule, defaults=defaults, has_paint=has_paint)
    strokes = None
    if request.strokes is not None:
        strokes = decode_strokes(request.strokes, size=size, limits=limits)
    mask = _edit_mask(request, size=size, labels=labels, strokes=strokes, limits=limits)
    painted = _painted_photo(request, photo.rgb, mask=mask, strokes=strokes)
    detail = _detail_source(request, strength=strength)
    crop = choose_square(*size, must_contain=bounding_box(mask))
    return PreparedEdit(
        mask=mask,
        crop=crop,
        plan=plan,
        strength=strength,
        detail=detail,
        feather_px=min(defaults.feather_px, REGION_FEATHER_PX)
        if request.regions
        else defaults.feather_px,
        painted=painted if detail == "photo" else None,
        x_0=cut_out(photo_to_tensor(photo.rgb), crop, resolution=resolution),
        u_0=cut_out(photo_to_tensor(painted), crop, resolution=resolution),
        model_mask=mask_to_model(mask, crop, resolution=resolution),
    )


def plan_edit(
    request: EditRequest, *, schedule: NoiseSchedule, defaults: ServingDefaults, has_paint: bool
) -> tuple[EditPlan, float]:
    """Choose start, steps, sampler and seed; return the plan and its strength.

    What the request leaves open comes from the bundle's defaults, except that an edit without
    paint (filling, erasing) starts at FILL_STRENGTH. Default steps never exceed the start.

    Raises:
        RequestError: 422 when timestep or steps do not fit the schedule.
    """
    total = schedule.num_timesteps
    if request.timestep is not None:
        if request.timestep > total:
            raise RequestError(
                422,
                f"timestep {request.timestep} is beyond the model's last, {total}",
                field="timestep",
                remedy=f"send a whole number from 1 to {total}, or a strength from 0 to 1",
            )
        t0 = request.timestep
        strength = schedule.strength_for_timestep(t0)
    else:
        default = defaults.strength if has_paint else FILL_STRENGTH
        strength = default if request.strength is None else request.strength
        t0 = schedule.timestep_for_strength(strength)
    steps = min(defaults.steps, t0) if request.steps is None else request.steps
    resamples = request.resamples or (1 if has_paint else FILL_RESAMPLES)
    if steps * resamples > MAX_EVALUATIONS:
        raise RequestError(
            422,
            f"{steps} steps of {resamples} evaluations each are more than {MAX_EVALUATIONS}",
            field="steps" if request.resamples is None else "resamples",
            remedy=f"send at most {MAX_EVALUATIONS // resamples} steps, or fewer resamples",
        )
    if steps > t0:
        raise RequestError(
            422,
            f"{steps} steps do not fit: this edit starts at timestep {t0}",
            field="steps",
            remedy=f"send 1 to {t0} steps, or a higher strength",
        )
    seed = secrets.randbelow(_DRAWN_SEEDS) if request.seed is None else request.seed
    sampler = request.sampler or defaults.sampler
    # The stronger the edit, the less it owes to the paint; without paint it owes it nothing.
    fidelity = min(1.0, 2.0 * (1.0 - strength)) if has_paint else 0.0
    plan = EditPlan(
        t0=t0, steps=steps, sampler=sampler, seed=seed, resamples=resamples, color_fidelity=fidelity
    )
    return plan, strength


def _detail_source(request: EditRequest, *, strength: float) -> DetailSource:
    """A color leaves the structure as it is, so the photo has better detail than any model."""
    if request.detail is not None:
        return request.detail
    recolors = request.color is not None and strength <= TRANSFER_STRENGTH
    return "photo" if recolors else "model"


def _edit_mask(
    request: EditRequest,
    *,
    size: tuple[int, int],
    labels: LabelMap | None,
    strokes: NDArray[np.uint8] | None,
    limits: ImageLimits,
) -> Mask:
    if request.mask is not None:
        mask: Mask = decode_mask(request.mask, size=size, limits=limits)
    elif request.regions:
        assert labels is not None
        mask = _region_mask(request.regions, labels)
    else:
        assert strokes is not None  # The schema refuses requests that mark nothing.
        return strokes[..., 3] > 0
    if strokes is not None and not (mask & (strokes[..., 3] > 0)).any():
        raise RequestError(
            422,
            "no stroke lies inside the mask",
            field="strokes",
            remedy="paint inside the mask, or send the strokes alone: they are a mask themselves",
        )
    return mask


def _region_mask(regions: tuple[str, ...], labels: LabelMap) -> Mask:
    present = [REGION_NAMES[i] for i in np.unique(labels)]
    absent = [name for name in regions if name not in present]
    if absent:
        raise RequestError(
            422,
            f"this photo shows no {' and no '.join(absent)}",
            field="regions",
            remedy=f"choose from those found: {', '.join(present)}; or send a mask",
        )
    mask: Mask = np.isin(labels, [region_id(name) for name in regions])
    return mask


def _painted_photo(
    request: EditRequest, photo: Photo, *, mask: Mask, strokes: NDArray[np.uint8] | None
) -> Photo:
    """Return the photo with paint inside the mask; without paint, the photo itself."""
    if strokes is not None:
        return np.where(mask[..., None], paint_over(photo, strokes), photo)
    if request.color is not None:
        red, green, blue = bytes.fromhex(request.color[1:])
        return recolor(photo, mask, (red, green, blue))
    return photo
