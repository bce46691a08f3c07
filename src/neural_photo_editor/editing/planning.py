"""What an edit request leaves open: where it starts, how it steps, where detail comes from."""

import secrets
from dataclasses import replace

from torch import Tensor

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import (
    MAX_EVALUATIONS,
    MAX_SEED,
    Blend,
    DetailSource,
    EditRequest,
)
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName
from neural_photo_editor.diffusion.schedule import NoiseSchedule

FILL_STRENGTH = 1.0
"""Default strength without paint: what the mask covers is to be replaced, not kept."""

FILL_SAMPLER: SamplerName = "ddim"
FILL_STEPS, FILL_RESAMPLES = 24, 2
"""Defaults without paint, 47 network calls. Nothing but the surroundings says what fits, so steps
are repeated; of the plans as long that were tried, fills look most real, see docs/benchmarks.md."""

TRANSFER_STRENGTH = 0.5
"""Up to here recoloring keeps the photo's own detail: a stronger edit is to draw new detail."""

_DRAWN_SEEDS = 2**32


def has_paint(request: EditRequest) -> bool:
    return request.strokes is not None or request.color is not None


def plan_edit(
    request: EditRequest, *, schedule: NoiseSchedule, defaults: ServingDefaults
) -> tuple[tuple[EditPlan, ...], float]:
    """Choose start, steps, sampler and seeds; return a plan for each variation and the strength.

    What the request leaves open comes from the bundle's defaults, or without paint (filling,
    erasing) from the FILL_ constants. Default steps exceed neither the start nor what
    MAX_EVALUATIONS leaves.

    Raises:
        RequestError: 422 when timestep or steps do not fit the schedule, or when it would take
            more than MAX_EVALUATIONS.
    """
    painted = has_paint(request)
    t0, strength = _start(request, schedule, default=defaults.strength if painted else None)
    sampler, steps, resamples = FILL_SAMPLER, FILL_STEPS, FILL_RESAMPLES
    if painted:
        sampler, steps, resamples = defaults.sampler, defaults.steps, 1
    resamples = request.resamples or resamples
    most = max(1, MAX_EVALUATIONS // (resamples * request.variations))
    steps = request.steps or min(steps, t0, most)
    _check_evaluations(request, steps=steps, resamples=resamples)
    if steps > t0:
        raise RequestError(
            422,
            f"{steps} steps do not fit: this edit starts at timestep {t0}",
            field="steps",
            remedy=f"send 1 to {t0} steps, or a higher strength",
        )
    seed = secrets.randbelow(_DRAWN_SEEDS) if request.seed is None else request.seed
    # The stronger the edit, the less it owes to the paint; without paint it owes it nothing.
    fidelity = min(1.0, 2.0 * (1.0 - strength)) if painted else 0.0
    plan = EditPlan(
        t0=t0,
        steps=steps,
        sampler=request.sampler or sampler,
        seed=seed,
        resamples=resamples,
        color_fidelity=fidelity,
    )
    seeds = [(seed + number) % (MAX_SEED + 1) for number in range(request.variations)]
    return tuple(replace(plan, seed=seed) for seed in seeds), strength


def plan_starts(shares: Tensor, *, strength: float, schedule: NoiseSchedule) -> Tensor:
    """Return the timestep at which each pixel joins an edit of a strength.

    Args:
        shares: float, in [0, 1], any shape: each pixel's share of the strength.
        strength: of the whole edit, 0..1.

    Returns:
        int64, as ``shares``; 0 (never) where the share rounds to 0 of 255.
    """
    table = [0] + [
        schedule.timestep_for_strength(strength * level / 255.0) for level in range(1, 256)
    ]
    levels = (shares * 255.0).round().long().clamp(0, 255)
    return levels.new_tensor(table)[levels]


def choose_detail(request: EditRequest, *, strength: float) -> DetailSource:
    """A color leaves the structure as it is, so the photo has better detail than any model."""
    if request.detail is not None:
        return request.detail
    if request.color is not None and strength <= TRANSFER_STRENGTH:
        return "photo"
    # Where a map says that pixels stay, the photo has the detail.
    keeps_some = has_paint(request) or request.strength_map is not None
    return "mixed" if keeps_some else "model"


def choose_blend(request: EditRequest, *, whole_photo: bool) -> Blend:
    """What is filled takes up the colors around it; paint keeps its own, up to its edge.

    Not so the fill of a region: its border is that of a thing, and what lies beyond is another.
    Without a pixel around the mask there are no gradients to continue.
    """
    if whole_photo:
        return "feather"
    keeps_its_edge = has_paint(request) or request.regions
    return request.blend or ("feather" if keeps_its_edge else "gradient")


def _start(
    request: EditRequest, schedule: NoiseSchedule, *, default: float | None
) -> tuple[int, float]:
    """Return the first timestep and its strength; no default means FILL_STRENGTH."""
    total = schedule.num_timesteps
    if request.timestep is None:
        strength = request.strength
        if strength is None:
            strength = FILL_STRENGTH if default is None else default
        return schedule.timestep_for_strength(strength), strength
    if request.timestep > total:
        raise RequestError(
            422,
            f"timestep {request.timestep} is beyond the model's last, {total}",
            field="timestep",
            remedy=f"send a whole number from 1 to {total}, or a strength from 0 to 1",
        )
    return request.timestep, schedule.strength_for_timestep(request.timestep)


def _check_evaluations(request: EditRequest, *, steps: int, resamples: int) -> None:
    variations = request.variations
    if steps * resamples * variations <= MAX_EVALUATIONS:
        return
    most = MAX_EVALUATIONS // (resamples * variations)
    if variations > 1:
        field = "variations"
    else:
        field = "steps" if request.resamples is None else "resamples"
    raise RequestError(
        422,
        f"{steps} steps of {resamples} evaluations each, for {variations} images, are more than "
        f"{MAX_EVALUATIONS}",
        field=field,
        remedy=f"send at most {most} steps, or fewer resamples or variations",
    )
