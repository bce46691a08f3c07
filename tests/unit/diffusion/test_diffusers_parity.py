"""Every sampler beside diffusers' schedulers: same eps outputs, same noise, float32 within 1e-5."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    RePaintScheduler,
)
from diffusers.schedulers import scheduling_repaint
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName, plan_steps
from neural_photo_editor.diffusion.masked_editing import masked_edit
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.reverse_process import reverse_process
from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()
LINEAR: dict[str, Any] = {"num_train_timesteps": 500, "beta_start": 1e-4, "beta_end": 2e-2}
SHAPE = (3, 16, 16)
SEED = 3

NextStep = Callable[[Tensor, int, Tensor, Tensor], Tensor]
"""(eps, 0-based t, x_t, z) -> x_s: one step of a scheduler."""


@torch.no_grad()
def predict_eps(x_t: Tensor, t: Tensor) -> Tensor:
    """A small convolution: its estimates of x_0 leave [-1, 1] at some pixels."""
    kernel = 0.3 * sample_noise(1, "kernel", shape=(3, 3, 3, 3))
    detail = torch.tanh(F.conv2d(x_t, kernel, padding=1))
    return 0.9 * x_t + 0.2 * detail * (t.reshape(-1, 1, 1, 1) / 500.0)


def ddpm(_: list[int]) -> NextStep:
    scheduler = DDPMScheduler(**LINEAR, timestep_spacing="trailing")
    scheduler.set_timesteps(50)

    def step(eps: Tensor, t: int, x_t: Tensor, z: Tensor) -> Tensor:
        # The scheduler draws its noise itself: take that out and put ours in.
        result = scheduler.step(eps, t, x_t, generator=torch.Generator().manual_seed(9))
        drawn = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(9))
        prev_sample: Tensor = result.prev_sample
        return prev_sample + scheduler._get_variance(t).sqrt() * (z - drawn)

    return step


def ddim(eta: float) -> Callable[[list[int]], NextStep]:
    def make(_: list[int]) -> NextStep:
        scheduler = DDIMScheduler(**LINEAR, timestep_spacing="trailing")
        scheduler.set_timesteps(50)
        return lambda eps, t, x_t, z: (
            scheduler.step(
                eps,
                t,
                x_t,
                eta=eta,
                use_clipped_model_output=True,
                variance_noise=z if eta else None,
            ).prev_sample
        )

    return make


def dpmpp_2m(timesteps: list[int]) -> NextStep:
    scheduler = DPMSolverMultistepScheduler(**LINEAR, solver_order=2, solver_type="midpoint")
    scheduler.set_timesteps(timesteps=timesteps)
    return lambda eps, t, x_t, z: scheduler.step(eps, t, x_t).prev_sample


@pytest.mark.parametrize(
    ("sampler", "eta", "clip", "make"),
    [
        ("ddpm", 0.0, True, ddpm),
        ("ddim", 0.0, True, ddim(0.0)),
        ("ddim", 0.7, True, ddim(0.7)),
        ("ddim", 1.0, True, ddim(1.0)),
        # diffusers does not clip the estimates of this solver.
        ("dpmpp_2m", 0.0, False, dpmpp_2m),
    ],
)
def test_a_run_of_50_steps(
    sampler: SamplerName, eta: float, clip: bool, make: Callable[[list[int]], NextStep]
) -> None:
    plan = EditPlan(t0=500, steps=50, sampler=sampler, seed=SEED, eta=eta)
    steps = plan_steps(plan, SCHEDULE)
    scheduler_step = make([step.t - 1 for step in steps])
    x = start = sample_noise(SEED, "start", shape=(1, *SHAPE))
    for step in steps:
        z = sample_noise(SEED, *step.keys("reverse"), shape=(1, *SHAPE))
        x = scheduler_step(predict_eps(x, torch.tensor([step.t])), step.t - 1, x, z)
    ours = reverse_process(predict_eps, start, plans=[plan], schedule=SCHEDULE, clip_x_0=clip)
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_repaint_with_going_back_up(eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """RePaintScheduler's `step` and `undo_step`; its estimates are left unclipped, see below.

    It keeps the model's eps when it clips x_0, where we keep DDPM's posterior (RePaint, Eq. 8b).
    """
    plan = EditPlan(t0=40, steps=40, sampler="ddim", seed=SEED, eta=eta, resamples=3)
    photo = sample_noise(SEED, "photo", shape=(1, *SHAPE)).clamp(-1, 1)
    mask = sample_noise(SEED, "mask", shape=(1, 1, *SHAPE[1:])) > 0.0

    scheduler = RePaintScheduler(**LINEAR, eta=eta, clip_sample=False)
    scheduler.set_timesteps(500)
    # In float32, 1 - alpha_bar has three digits near t = 0.
    scheduler.betas, scheduler.alphas_cumprod = SCHEDULE.betas, SCHEDULE.alpha_bar[1:]
    noise: list[Tensor] = []
    monkeypatch.setattr(scheduling_repaint, "randn_tensor", lambda *_, **__: noise.pop())

    def drawn(*keys: int | str) -> Tensor:
        return sample_noise(SEED, *keys, shape=(1, *SHAPE))

    t0 = torch.tensor([plan.t0])
    x = add_noise(photo, t=t0, eps=drawn("start", plan.t0), schedule=SCHEDULE)
    level = plan.t0
    for step in plan_steps(plan, SCHEDULE):
        if step.t > level:
            noise.append(drawn(*step.keys("again")))
            x = scheduler.undo_step(x, level)
        level = step.s
        # One draw serves both regions there; ours has one for each.
        known = drawn(*step._replace(t=step.s).keys("known"))
        noise.append(torch.where(mask, drawn(*step.keys("reverse")), known))
        eps = predict_eps(x, torch.tensor([step.t]))
        x = scheduler.step(eps, step.t - 1, x, photo, (~mask).float()).prev_sample
    ours = masked_edit(
        predict_eps, photo, x_0=photo, mask=mask, plans=[plan], schedule=SCHEDULE, clip_x_0=False
    )
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=0)
