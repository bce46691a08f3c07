"""Schedules that leave nothing of the image at t = T, beside diffusers' and in closed form."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import (
    LOWEST_SNR_DB,
    EditPlan,
    SamplerName,
    log_snr_timesteps,
    plan_steps,
)
from neural_photo_editor.diffusion.inversion import ddim_invert
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.objective import denoising_loss, min_snr_weights
from neural_photo_editor.diffusion.process import predict_x_0, training_target
from neural_photo_editor.diffusion.reverse_process import reverse_process
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.diffusion.gaussian_data import GaussianData

SCHEDULE = NoiseSchedule.linear(prediction="v", zero_terminal_snr=True)
COSINE = NoiseSchedule.cosine(1000, "v", zero_terminal_snr=True)
SHAPE = (3, 16, 16)


def predict_v(x_t: Tensor, t: Tensor) -> Tensor:
    """Something smooth whose estimates of x_0 leave [-1, 1] at some pixels."""
    return torch.tanh(x_t.roll(1, dims=-1)) * (0.5 + t.reshape(-1, 1, 1, 1) / 1000.0)


def optimal_v(data: GaussianData) -> Callable[[Tensor, Tensor], Tensor]:
    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar_t = data.schedule.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        x_0 = torch.cat([data.x_0(x, int(i)).unsqueeze(0) for x, i in zip(x_t, t, strict=True)])
        return alpha_bar_t.sqrt() * data(x_t, t) - (1 - alpha_bar_t).sqrt() * x_0.to(x_t)

    return denoiser


@pytest.mark.parametrize("schedule", [SCHEDULE, COSINE])
def test_alpha_bar_is_that_of_diffusers_and_ends_at_zero(schedule: NoiseSchedule) -> None:
    plain = replace(schedule, zero_terminal_snr=False)
    theirs = 1.0 - rescale_zero_terminal_snr(plain.betas)
    expected = torch.cumprod(theirs, dim=0)
    torch.testing.assert_close(schedule.alpha_bar[1:], expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(1.0 - schedule.betas, theirs, rtol=1e-6, atol=1e-9)
    assert schedule.alpha_bar[-1] == 0.0
    assert schedule.betas[-1] == 1.0
    assert float(schedule.alpha_bar[1]) == pytest.approx(float(plain.alpha_bar[1]), rel=1e-12)
    assert schedule.alpha_bar[0] == 1.0
    assert (schedule.alpha_bar.diff() < 0).all()


def test_it_needs_v_and_two_timesteps() -> None:
    with pytest.raises(ValueError, match=r"zero_terminal_snr with prediction 'epsilon'.*choose v"):
        NoiseSchedule.linear(zero_terminal_snr=True)
    with pytest.raises(ValueError, match="at least 2"):
        NoiseSchedule.linear(1, prediction="v", zero_terminal_snr=True)


def test_strength_and_signal_to_noise_ratio_are_defined_up_to_the_end() -> None:
    assert SCHEDULE.snr_db(500) == -math.inf
    assert SCHEDULE.strength_for_timestep(500) == 1.0
    for strength in (0.0, 0.5, 1.0):
        t = SCHEDULE.timestep_for_strength(strength)
        assert SCHEDULE.snr_db(t) == pytest.approx(10.0 - 30.0 * strength, abs=0.3)


NextStep = Callable[[Tensor, int, Tensor, Tensor], Tensor]
"""(v, 0-based t, x_t, z) -> x_s: one step of a scheduler."""


def scheduler_of(kind: type[Any], **settings: Any) -> Any:
    return kind(
        num_train_timesteps=500,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        **settings,
    )


def ddpm(_: list[int]) -> NextStep:
    scheduler = scheduler_of(DDPMScheduler, timestep_spacing="trailing")
    scheduler.set_timesteps(50)

    def step(v: Tensor, t: int, x_t: Tensor, z: Tensor) -> Tensor:
        # The scheduler draws its noise itself: take that out and put ours in.
        result = scheduler.step(v, t, x_t, generator=torch.Generator().manual_seed(9))
        drawn = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(9))
        prev_sample: Tensor = result.prev_sample
        return prev_sample + (scheduler._get_variance(t).sqrt() * (z - drawn) if t else 0.0)

    return step


def ddim(eta: float) -> Callable[[list[int]], NextStep]:
    def make(_: list[int]) -> NextStep:
        scheduler = scheduler_of(DDIMScheduler, timestep_spacing="trailing")
        scheduler.set_timesteps(50)
        return lambda v, t, x_t, z: (
            scheduler.step(
                v,
                t,
                x_t,
                eta=eta,
                use_clipped_model_output=True,
                variance_noise=z if eta else None,
            ).prev_sample
        )

    return make


def dpmpp_2m(timesteps: list[int]) -> NextStep:
    scheduler = scheduler_of(DPMSolverMultistepScheduler, solver_order=2, solver_type="midpoint")
    scheduler.set_timesteps(timesteps=timesteps)
    return lambda v, t, x_t, z: scheduler.step(v, t, x_t).prev_sample


@pytest.mark.parametrize(
    ("sampler", "eta", "clip", "make", "atol"),
    [
        ("ddpm", 0.0, True, ddpm, 2e-5),
        ("ddim", 0.0, True, ddim(0.0), 2e-5),
        ("ddim", 0.7, True, ddim(0.7), 2e-5),
        ("ddim", 0.95, True, ddim(0.95), 2e-5),  # at 1, theirs takes the root of -1e-8
        # It takes alpha_bar_T = 2^-24 in the place of 0, and does not clip the estimates.
        ("dpmpp_2m", 0.0, False, dpmpp_2m, 2e-3),
    ],
)
def test_samplers_agree_with_diffusers(
    sampler: SamplerName,
    eta: float,
    clip: bool,
    make: Callable[[list[int]], NextStep],
    atol: float,
) -> None:
    plan = EditPlan(t0=500, steps=50, sampler=sampler, seed=3, eta=eta)
    steps = plan_steps(plan, SCHEDULE)
    scheduler_step = make([step.t - 1 for step in steps])
    x = start = sample_noise(3, "start", shape=(1, *SHAPE))
    for step in steps:
        z = sample_noise(3, *step.keys("reverse"), shape=(1, *SHAPE))
        x = scheduler_step(predict_v(x, torch.tensor([step.t])), step.t - 1, x, z)
    ours = reverse_process(predict_v, start, plans=[plan], schedule=SCHEDULE, clip_x_0=clip)
    torch.testing.assert_close(ours, x, atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "steps"), [("ddpm", 500), ("ddim", 500), ("dpmpp_2m", 20), ("dpmpp_2m", 500)]
)
def test_gaussian_data_is_reproduced_from_pure_noise_alone(
    sampler: SamplerName, steps: int
) -> None:
    """Nothing tells the start of the data's mean, as `mean_x_0` has to of other schedules."""
    data = GaussianData(SCHEDULE)
    result = sample(
        optimal_v(data),
        shape=(3, 64, 64),
        schedule=SCHEDULE,
        seeds=[1],
        sampler=sampler,
        steps=steps,
        clip_x_0=False,
    )
    assert float(result.mean()) == pytest.approx(data.mean, abs=0.01)
    assert float(result.std()) == pytest.approx(data.std, rel=0.03)


@pytest.mark.parametrize("schedule", [SCHEDULE, COSINE, NoiseSchedule.cosine(1000, "v")])
@pytest.mark.parametrize("steps", [2, 3, 10, 50, 500])
def test_the_solver_spends_one_step_below_where_anything_is_to_be_seen(
    schedule: NoiseSchedule, steps: int
) -> None:
    T = schedule.num_timesteps
    timesteps = log_snr_timesteps(T, steps, schedule)
    assert len(timesteps) == steps + 1
    assert (timesteps[0], timesteps[-2], timesteps[-1]) == (T, 1, 0)
    assert all(a > b for a, b in pairwise(timesteps))
    if steps <= 50:
        assert schedule.snr_db(timesteps[1]) > LOWEST_SNR_DB


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m"])
def test_an_edit_from_the_last_timestep_keeps_the_photo(sampler: SamplerName) -> None:
    photo = sample_noise(1, "photo", shape=(1, *SHAPE)).clamp(-1, 1)
    mask = torch.zeros(1, 1, *SHAPE[1:])
    mask[..., 4:12, 4:12] = 1.0
    plan = EditPlan(t0=500, steps=8, sampler=sampler, seed=2, resamples=2, jump_length=2)
    edited = masked_edit(predict_v, photo, x_0=photo, mask=mask, plans=[plan], schedule=SCHEDULE)
    assert edited.isfinite().all()
    outside = (mask == 0).expand_as(photo)
    assert torch.equal(edited[outside], photo[outside])
    assert not torch.equal(edited, photo)
    # Where nothing of the photo is left, nothing of its paint is either.
    other = masked_edit(
        predict_v, photo.neg(), x_0=photo, mask=mask, plans=[plan], schedule=SCHEDULE
    )
    assert torch.equal(other, edited)


def test_the_target_at_the_last_timestep_is_the_image_itself() -> None:
    x_0, eps = sample_noise(1, "x_0", shape=(2, *SHAPE)), sample_noise(2, "eps", shape=(2, *SHAPE))
    t = torch.tensor([500, 499])
    target = training_target(x_0, t=t, eps=eps, schedule=SCHEDULE)
    assert torch.equal(target[0], -x_0[0])
    estimate = predict_x_0(eps, t=t, output=target, schedule=SCHEDULE)
    assert torch.equal(estimate[0], x_0[0])
    loss = denoising_loss(predict_v, x_0, t=t, eps=eps, schedule=SCHEDULE)
    assert loss.isfinite().all()


def test_inversion_stops_one_before_the_end() -> None:
    photo = sample_noise(1, "photo", shape=(1, *SHAPE)).clamp(-1, 1)
    with pytest.raises(ValueError, match="choose at most 499"):
        ddim_invert(predict_v, photo, t0=500, steps=50, schedule=SCHEDULE)
    assert ddim_invert(predict_v, photo, t0=499, steps=50, schedule=SCHEDULE).isfinite().all()


def test_min_snr_weighting_would_not_train_the_first_step_of_sampling() -> None:
    with pytest.raises(ValueError, match="weight 0 to the last timestep"):
        min_snr_weights(SCHEDULE, gamma=5.0)
