"""What a request becomes before the model sees it, and which requests are refused."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neural_photo_editor.api.codec import DecodedPhoto, ImageLimits, encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest
from neural_photo_editor.artifacts.bundle import ServingDefaults
from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.editing.preparation import PreparedEdit, plan_edit, prepare_edit

SCHEDULE = NoiseSchedule.linear()
DEFAULTS = ServingDefaults(
    sampler="ddim",
    steps=50,
    strength=0.4,
    feather_px=3,
    max_pixels=4096 * 4096,
    max_bytes=20 * 2**20,
)
HEIGHT, WIDTH = 60, 40


def _photo() -> DecodedPhoto:
    rgb = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return DecodedPhoto(rgb=rgb, alpha=None, icc_profile=None)


def _labels() -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[5:20] = 1
    labels[20:40, 10:30] = 10
    return labels


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _mask_png(rows: slice = slice(30, 40)) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[rows, 10:25] = 255
    return _png(mask)


def _strokes_png(alpha: int = 255) -> bytes:
    strokes = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    strokes[32:36, 12:20] = (200, 30, 30, alpha)
    return _png(strokes)


def _prepare(**fields: Any) -> PreparedEdit:
    photo = _photo()
    request = EditRequest(photo=encode_png(photo.rgb), **fields)
    return prepare_edit(
        request,
        photo,
        labels=_labels(),
        schedule=SCHEDULE,
        defaults=DEFAULTS,
        limits=ImageLimits(),
        resolution=WIDTH,
    )


def _plan(*, has_paint: bool = True, **fields: Any) -> tuple[int, int, str, float]:
    request = EditRequest(photo=b"x", mask=b"x", **fields)
    plan, strength = plan_edit(request, schedule=SCHEDULE, defaults=DEFAULTS, has_paint=has_paint)
    return plan.t0, plan.steps, plan.sampler, strength


def test_defaults_fill_what_is_left_open() -> None:
    t0 = SCHEDULE.timestep_for_strength(0.4)
    assert _plan() == (t0, 50, "ddim", 0.4)


def test_filling_starts_from_almost_pure_noise() -> None:
    t0, _, _, strength = _plan(has_paint=False)
    assert strength == 1.0
    assert t0 == SCHEDULE.timestep_for_strength(1.0)


def test_paint_keeps_its_colors_the_less_the_stronger_the_edit_and_fills_keep_none() -> None:
    def plan(**fields: Any) -> EditPlan:
        return _prepare(mask=_mask_png(), **fields).plan

    assert plan(color="#ff0000", strength=0.3).color_fidelity == 1.0
    assert plan(color="#ff0000", strength=0.8).color_fidelity == pytest.approx(0.4)
    assert plan(color="#ff0000", strength=1.0).color_fidelity == 0.0
    assert plan(strength=0.3).color_fidelity == 0.0


def test_fills_are_resampled_and_paint_is_not_unless_asked() -> None:
    assert _prepare(mask=_mask_png()).plan.resamples == 5
    assert _prepare(mask=_mask_png(), color="#ff0000").plan.resamples == 1
    assert _prepare(mask=_mask_png(), resamples=2).plan.resamples == 2
    assert _prepare(mask=_mask_png(), color="#ff0000", resamples=2).plan.resamples == 2


@pytest.mark.parametrize(
    ("fields", "named"), [({"steps": 400}, "steps"), ({"steps": 100, "resamples": 11}, "resamples")]
)
def test_too_many_evaluations_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match="more than 1000") as caught:
        _prepare(mask=_mask_png(), **fields)
    assert (caught.value.status, caught.value.field) == (422, named)


def test_the_edge_of_regions_is_hardly_softened() -> None:
    assert _prepare(mask=_mask_png()).feather_px == 3
    assert _prepare(regions=("hair",)).feather_px == 1


def test_requested_values_win_over_defaults() -> None:
    assert _plan(strength=0.0, steps=7, sampler="ddpm") == (67, 7, "ddpm", 0.0)
    t0, steps, _, strength = _plan(timestep=200, has_paint=False)
    assert (t0, steps) == (200, 50)
    assert strength == SCHEDULE.strength_for_timestep(200)
    assert _plan(timestep=9)[:2] == (9, 9)


def test_seeds_are_kept_or_drawn() -> None:
    assert _prepare(regions=("hair",), seed=0).plan.seed == 0
    drawn = {_prepare(regions=("hair",)).plan.seed for _ in range(4)}
    assert len(drawn) == 4


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


def test_regions_become_the_mask() -> None:
    edit = _prepare(regions=("hair", "skin"))
    np.testing.assert_array_equal(edit.mask, np.isin(_labels(), [1, 10]))


def test_regions_the_photo_lacks_are_named_with_those_it_has() -> None:
    with pytest.raises(RequestError, match="background, hair, skin") as caught:
        _prepare(regions=("hair", "hat", "lip"))
    assert caught.value.field == "regions"
    assert "no hat and no lip" in caught.value.detail


def test_strokes_alone_are_their_own_mask() -> None:
    edit = _prepare(strokes=_strokes_png(alpha=1))
    assert edit.mask.sum() == 4 * 8
    assert edit.mask[32:36, 12:20].all()


def test_the_paint_is_the_strokes_inside_the_mask_only() -> None:
    edit = _prepare(strokes=_strokes_png(), mask=_mask_png(rows=slice(30, 34)))
    # The square is the photo's central 40 x 40 pixels, so the model sees photo pixels unchanged.
    assert edit.crop.box == (10, 0, 50, 40)
    changed = (edit.u_0 != edit.x_0).any(dim=1)[0].numpy()
    expected = np.zeros((40, 40), dtype=bool)
    expected[22:24, 12:20] = True
    np.testing.assert_array_equal(changed, expected)
    red = (edit.u_0[0, :, 22, 12] + 1) * 127.5
    np.testing.assert_allclose(red, [200, 30, 30], atol=1e-3)
    np.testing.assert_array_equal(edit.model_mask[0, 0], edit.mask[10:50])


def test_a_color_paints_the_whole_mask_with_shading() -> None:
    edit = _prepare(regions=("hair",), color="#c81e64")
    painted = ((edit.u_0[0] + 1) * 127.5)[:, edit.model_mask[0, 0]]
    np.testing.assert_allclose(painted.mean(dim=1), [200, 30, 100], atol=6)
    assert painted.sum(dim=0).std() > 10
    outside = ~edit.model_mask[0, 0]
    assert (edit.u_0[0][:, outside] == edit.x_0[0][:, outside]).all()


def test_without_paint_the_photo_is_the_start() -> None:
    edit = _prepare(mask=_mask_png())
    assert (edit.u_0 == edit.x_0).all()


def test_strokes_outside_the_mask_are_refused() -> None:
    with pytest.raises(RequestError, match="no stroke lies inside the mask") as caught:
        _prepare(strokes=_strokes_png(), regions=("hair",))
    assert caught.value.field == "strokes"


def test_masks_of_another_size_are_refused_with_both_sizes() -> None:
    with pytest.raises(RequestError, match="40 x 60") as caught:
        _prepare(mask=_png(np.full((50, 40), 255, dtype=np.uint8)))
    assert "40 x 50" in caught.value.detail
    assert caught.value.field == "mask"


def test_empty_masks_are_refused() -> None:
    with pytest.raises(RequestError, match="empty"):
        _prepare(mask=_png(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)))
