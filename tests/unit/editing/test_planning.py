"""Start, steps, seeds, detail and blend of an edit, and which plans are refused."""

from typing import Any

import pytest
import torch

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.planning import (
    choose_blend,
    choose_detail,
    plan_edit,
    plan_starts,
)

SCHEDULE = NoiseSchedule.linear()
DEFAULTS = ServingDefaults(sampler="dpmpp_2m", steps=50, strength=0.4)
PAINT = {"color": "#ff0000"}


def _request(**fields: Any) -> EditRequest:
    return EditRequest(photo=b"x", mask=b"x", response="json", **fields)


def _plans(**fields: Any) -> tuple[tuple[EditPlan, ...], float]:
    return plan_edit(_request(**fields), schedule=SCHEDULE, defaults=DEFAULTS)


def _plan(**fields: Any) -> tuple[int, int, str, float]:
    (plan,), strength = _plans(**fields)
    return plan.t0, plan.steps, plan.sampler, strength


def test_defaults_fill_what_is_left_open() -> None:
    t0 = SCHEDULE.timestep_for_strength(0.4)
    assert _plan(**PAINT) == (t0, 50, "dpmpp_2m", 0.4)


def test_filling_starts_from_almost_pure_noise_with_a_plan_of_its_own() -> None:
    assert _plan() == (SCHEDULE.timestep_for_strength(1.0), 24, "ddim", 1.0)


def test_requested_values_win_over_defaults() -> None:
    assert _plan(strength=0.0, steps=7, sampler="ddpm") == (67, 7, "ddpm", 0.0)
    t0, steps, _, strength = _plan(timestep=200)
    assert (t0, steps) == (200, 24)
    assert strength == SCHEDULE.strength_for_timestep(200)
    assert _plan(timestep=9)[:2] == _plan(timestep=9, **PAINT)[:2] == (9, 9)


def test_paint_keeps_its_colors_the_less_the_stronger_the_edit_and_fills_keep_none() -> None:
    def fidelity(**fields: Any) -> float:
        return _plans(**fields)[0][0].color_fidelity

    assert fidelity(**PAINT, strength=0.3) == 1.0
    assert fidelity(**PAINT, strength=0.8) == pytest.approx(0.4)
    assert fidelity(**PAINT, strength=1.0) == 0.0
    assert fidelity(strength=0.3) == 0.0


def test_fills_are_resampled_and_paint_is_not_unless_asked() -> None:
    def resamples(**fields: Any) -> int:
        return _plans(**fields)[0][0].resamples

    assert resamples() == 2
    assert resamples(**PAINT) == 1
    assert resamples(resamples=2) == resamples(**PAINT, resamples=2) == 2


def test_variations_have_consecutive_seeds_and_nothing_else_of_their_own() -> None:
    plans, strength = _plans(variations=3, seed=7)
    assert [plan.seed for plan in plans] == [7, 8, 9]
    assert (plans[:1], strength) == _plans(seed=7)
    assert plans[1:2] == _plans(seed=8)[0]
    assert [plan.seed for plan in _plans(variations=2, seed=2**63 - 1)[0]] == [2**63 - 1, 0]


def test_seeds_are_kept_or_drawn() -> None:
    assert _plans(seed=0)[0][0].seed == 0
    assert len({_plans()[0][0].seed for _ in range(4)}) == 4


def test_default_steps_leave_room_for_all_variations() -> None:
    plans, _ = _plans(variations=8, resamples=20)
    assert [plan.steps * plan.resamples for plan in plans] == [120] * 8
    assert [plan.steps for plan in _plans(variations=8)[0]] == [24] * 8


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"steps": 501}, "steps"),
        ({"steps": 51, "resamples": 20}, "resamples"),
        ({"steps": 63, "variations": 8}, "variations"),
    ],
)
def test_too_many_evaluations_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match="more than 1000") as caught:
        _plans(**fields)
    assert (caught.value.status, caught.value.field) == (422, named)


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"timestep": 501}, "timestep", "from 1 to 500"),
        ({"timestep": 20, "steps": 21}, "steps", "1 to 20 steps"),
        ({"strength": 0.0, "steps": 68}, "steps", "1 to 67 steps"),
    ],
)
def test_plans_that_do_not_fit_the_schedule(
    fields: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(RequestError, match=remedy) as caught:
        _plan(**fields)
    assert caught.value.status == 422
    assert caught.value.field == field


def test_a_share_of_the_strength_is_a_timestep() -> None:
    shares = torch.tensor([[0.0, 0.001, 0.5, 1.0]])
    starts = plan_starts(shares, strength=0.8, schedule=SCHEDULE)
    assert starts.dtype == torch.int64
    half = SCHEDULE.timestep_for_strength(0.8 * 128 / 255)
    assert starts.tolist() == [[0, 0, half, SCHEDULE.timestep_for_strength(0.8)]]


@pytest.mark.parametrize(
    ("fields", "strength", "detail"),
    [
        (PAINT, 0.5, "photo"),
        (PAINT, 0.51, "mixed"),
        ({"strokes": b"s"}, 0.1, "mixed"),
        ({}, 0.1, "model"),
        ({"strength_map": b"m"}, 0.1, "mixed"),
        ({**PAINT, "detail": "model"}, 0.1, "model"),
        ({"detail": "mixed"}, 1.0, "mixed"),
    ],
)
def test_detail_comes_from_where_it_is_best(
    fields: dict[str, Any], strength: float, detail: str
) -> None:
    assert choose_detail(_request(**fields), strength=strength) == detail


def test_fills_continue_the_colors_around_them() -> None:
    assert choose_blend(_request(), whole_photo=False) == "gradient"
    assert choose_blend(_request(**PAINT), whole_photo=False) == "feather"
    assert choose_blend(_request(**PAINT, blend="gradient"), whole_photo=False) == "gradient"
    assert choose_blend(_request(blend="feather"), whole_photo=False) == "feather"
    # A region's border is one of the photo's, too.
    region = EditRequest(photo=b"x", regions=("hair",))
    assert choose_blend(region, whole_photo=False) == "feather"
    # Nothing lies around a mask of the whole photo.
    assert choose_blend(_request(blend="gradient"), whole_photo=True) == "feather"
