"""Soft masks, and maps of the timestep at which each pixel joins."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.sampler_steps import SAMPLER_STEPS
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.diffusion.gaussian_data import GaussianData

SCHEDULE = NoiseSchedule.linear()
SAMPLERS = st.sampled_from(sorted(SAMPLER_STEPS))


def elementwise_model(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x_t) * (t.reshape(-1, 1, 1, 1) / 500.0 + 0.1)


def _images(key: str, size: int = 16) -> Tensor:
    return sample_noise(0, key, shape=(1, 3, size, size)).clamp(-1, 1)


def _edit(plan: EditPlan, mask: Tensor, start: Tensor | None = None) -> Tensor:
    return masked_edit(
        elementwise_model,
        _images("paint"),
        x_0=_images("photo"),
        mask=mask,
        plans=[plan],
        schedule=SCHEDULE,
        start=start,
    )


@settings(max_examples=20, deadline=None)
@given(sampler=SAMPLERS, t0=st.integers(1, 60), data=st.data(), seed=st.integers(0, 9))
def test_a_soft_mask_of_zeros_and_ones_is_the_hard_mask(
    sampler: SamplerName, t0: int, data: st.DataObject, seed: int
) -> None:
    steps = data.draw(st.integers(1, t0))
    plan = EditPlan(t0=t0, steps=steps, sampler=sampler, seed=seed)
    mask = sample_noise(seed, "mask", shape=(1, 1, 16, 16)) > 0
    assert torch.equal(_edit(plan, mask), _edit(plan, mask.float()))


@settings(max_examples=20, deadline=None)
@given(sampler=SAMPLERS, seed=st.integers(0, 99))
def test_pixels_of_mask_zero_equal_the_photo(sampler: SamplerName, seed: int) -> None:
    mask = (sample_noise(seed, "mask", shape=(1, 1, 16, 16)) + 0.5).clamp(0, 1)
    result = _edit(EditPlan(t0=200, steps=5, sampler=sampler, seed=seed), mask)
    outside = (mask == 0).expand_as(result)
    assert torch.equal(result[outside], _images("photo")[outside])
    assert not torch.equal(result[~outside], _images("photo")[~outside])


def test_a_soft_mask_mixes_means_and_keeps_the_noise_at_full_strength() -> None:
    """Data that is 0.5 everywhere: each state must have the mean and the variance of its t."""
    size = 192
    image = torch.full((1, 3, size, size), 0.5)
    mask = torch.linspace(0, 1, size).expand(1, 1, size, size)
    states: dict[int, Tensor] = {}

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        states[int(t)] = x_t
        alpha_bar_t = SCHEDULE.alpha_bar[t].float()
        return (x_t - 0.5 * alpha_bar_t.sqrt()) / (1 - alpha_bar_t).sqrt()

    for sampler in SAMPLER_STEPS:
        plan = EditPlan(t0=300, steps=6, sampler=sampler, seed=1)
        result = masked_edit(oracle, image, x_0=image, mask=mask, plans=[plan], schedule=SCHEDULE)
        torch.testing.assert_close(result, image, atol=1e-5, rtol=0)
        for t, x_t in states.items():
            for band in x_t.chunk(8, dim=-1):
                mean, std = SCHEDULE.alpha_bar[t].sqrt() * 0.5, (1 - SCHEDULE.alpha_bar[t]).sqrt()
                assert float(band.mean()) == pytest.approx(float(mean), abs=0.03)
                assert float(band.std()) == pytest.approx(float(std), rel=0.03)


@settings(max_examples=25, deadline=None)
@given(
    sampler=SAMPLERS,
    t0=st.integers(1, 60),
    data=st.data(),
    eta=st.floats(0, 1),
    resamples=st.integers(1, 2),
)
def test_a_constant_map_of_t0_is_the_plain_edit(
    sampler: SamplerName, t0: int, data: st.DataObject, eta: float, resamples: int
) -> None:
    steps = data.draw(st.integers(1, t0))
    plan = EditPlan(t0=t0, steps=steps, sampler=sampler, seed=1, eta=eta, resamples=resamples)
    mask = sample_noise(1, "mask", shape=(1, 1, 16, 16)) > 0
    plain = _edit(plan, mask)
    for value in (t0, 10_000):
        assert torch.equal(_edit(plan, mask, torch.full((1, 1, 16, 16), value)), plain)


@settings(max_examples=25, deadline=None)
@given(sampler=SAMPLERS, t0=st.integers(1, 60), data=st.data(), fidelity=st.floats(0, 1))
def test_joining_later_is_starting_later(
    sampler: SamplerName, t0: int, data: st.DataObject, fidelity: float
) -> None:
    """With every timestep visited, a constant map of c is the plain edit from t0 = c."""
    c = data.draw(st.integers(1, t0))
    mask = torch.ones((1, 1, 16, 16))
    first, second = (
        EditPlan(t0=t, steps=t, sampler=sampler, seed=1, color_fidelity=fidelity) for t in (t0, c)
    )
    actual = _edit(first, mask, torch.full((1, 1, 16, 16), c))
    torch.testing.assert_close(actual, _edit(second, mask), atol=1e-6, rtol=0)


def test_a_map_of_zero_keeps_the_paint() -> None:
    mask = torch.ones((1, 1, 16, 16))
    mask[..., :8] = 0
    start = torch.zeros((1, 1, 16, 16), dtype=torch.int64)
    result = _edit(EditPlan(t0=100, steps=5, seed=1), mask, start)
    assert torch.equal(result[..., 8:], _images("paint")[..., 8:])
    assert torch.equal(result[..., :8], _images("photo")[..., :8])


def test_until_a_pixel_joins_it_is_the_painted_photo_noised() -> None:
    """Visited are 100, 80, 60, 40, 20; a pixel joins at the one nearest to its start."""
    start = torch.tensor([0, 9, 31, 49, 50, 95]).repeat(6, 1).reshape(1, 1, 6, 6)
    joins_at = torch.tensor([0, 0, 40, 40, 60, 100]).repeat(6, 1).reshape(1, 1, 6, 6)
    u_0 = _images("paint", 6)
    seen: dict[int, Tensor] = {}

    def spy(x_t: Tensor, t: Tensor) -> Tensor:
        seen[int(t)] = x_t.clone()
        return elementwise_model(x_t, t)

    plan = EditPlan(t0=100, steps=5, seed=4)
    mask = torch.ones((1, 1, 6, 6), dtype=torch.bool)
    masked_edit(spy, u_0, x_0=u_0, mask=mask, plans=[plan], schedule=SCHEDULE, start=start)
    for t, x_t in seen.items():
        eps = sample_noise(4, "start", t, shape=(1, 3, 6, 6))
        noised = add_noise(u_0, t=torch.tensor([t]), eps=eps, schedule=SCHEDULE)
        assert torch.equal((x_t == noised).all(dim=1, keepdim=True), joins_at <= t)


@pytest.mark.parametrize(("sampler", "steps"), [("ddpm", 500), ("ddim", 500), ("dpmpp_2m", 20)])
def test_gaussian_data_is_reproduced_whenever_a_pixel_joins(
    sampler: SamplerName, steps: int
) -> None:
    data = GaussianData(SCHEDULE)
    u_0 = data.mean + data.std * sample_noise(1, "data", shape=(1, 3, 128, 128))
    start = torch.linspace(0, 500, 128).long().expand(1, 1, 128, 128)
    result = masked_edit(
        data,
        u_0,
        x_0=u_0,
        mask=torch.ones((1, 1, 128, 128), dtype=torch.bool),
        plans=[EditPlan(t0=500, steps=steps, sampler=sampler, seed=3)],
        schedule=SCHEDULE,
        start=start,
        clip_x_0=False,
    )
    for band in result.chunk(4, dim=-1):
        assert float(band.mean()) == pytest.approx(data.mean, abs=0.015)
        assert float(band.std()) == pytest.approx(data.std, rel=0.03)
