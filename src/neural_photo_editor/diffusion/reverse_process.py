"""The reverse process of a batch whose items may differ in everything: start, steps, sampler, seed.

One network call serves every item that still has steps to take. Noise comes from an item's own seed
and timestep, so an item's result does not depend on its batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, Step, plan_steps
from neural_photo_editor.diffusion.noise import sample_noise, without_low_frequencies
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.process import predict_x_0
from neural_photo_editor.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class StepReport:
    """What ``on_step`` is told after each step.

    Attributes:
        step: network calls made so far, from 1.
        items: positions in the batch of the n items that took this step.
        t: timesteps they left, in the order of ``items``.
        x_0: the model's estimates of their results, float, (n, 3, H, W).
    """

    step: int
    items: tuple[int, ...]
    t: tuple[int, ...]
    x_0: Tensor


LOW_FREQUENCY_SIGMA = 1 / 32
"""Sigma of the blur that tells low from high frequencies, as a share of the image's side."""

OnStep = Callable[[StepReport], bool | None]
"""Called after each step; returning False cancels the whole batch."""

PutBack = Callable[[Tensor, Sequence[int], Sequence[Step]], Tensor]
"""(x_s of the active items, their positions in the batch, the steps that led to s) -> new x_s."""


class SamplingCanceledError(Exception):
    """``on_step`` returned False."""


def reverse_step(
    x_t: Tensor,
    *,
    x_0: Tensor,
    z: Tensor,
    t: Sequence[int],
    s: Sequence[int],
    eta: Sequence[float],
    schedule: NoiseSchedule,
) -> Tensor:
    """DDIM (Song et al. 2021), Eq. 12, from timestep t to any s < t, per item.

    With eta = 1 this is DDPM's ancestral step, Eq. 7 with the posterior variance
    (1 - alpha_bar_s) / (1 - alpha_bar_t) * beta, on the schedule respaced to the timesteps used:
    beta = 1 - alpha_bar_t / alpha_bar_s. Deviation: the noise direction is recomputed from the
    given (clipped) x_0, so that the state stays on the marginal of that x_0.

    Args:
        x_t: float, (N, C, H, W).
        x_0: the model's estimate of x_0, as x_t.
        z: standard normal noise, as x_t.
        t: N timesteps in 1..T. s: N timesteps in 0..t-1; s = 0 returns ``x_0``.
        eta: N noise scales in 0..1.
        schedule: the noise schedule.

    Returns:
        x_s, as x_t.
    """
    alpha_bar_t = schedule.alpha_bar[list(t)]
    alpha_bar_s = schedule.alpha_bar[list(s)]
    variance_ratio = (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t)
    beta = 1.0 - alpha_bar_t / alpha_bar_s
    sigma = torch.tensor(list(eta), dtype=torch.float64) * (variance_ratio * beta).sqrt()
    # Eq. 12 with eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t), by x_0, x_t and z.
    b = (1.0 - alpha_bar_s - sigma**2).clamp_min(0.0).sqrt() / (1.0 - alpha_bar_t).sqrt()
    a = alpha_bar_s.sqrt() - b * alpha_bar_t.sqrt()
    # (3, N) -> three of (N, 1, 1, 1); one copy to the device.
    factors = torch.stack([a, b, sigma]).to(x_t.dtype).to(x_t.device).reshape(3, -1, 1, 1, 1)
    return factors[0] * x_0 + factors[1] * x_t + factors[2] * z


@torch.no_grad()
def reverse_process(
    denoiser: Denoiser,
    x: Tensor,
    *,
    plans: Sequence[EditPlan],
    schedule: NoiseSchedule,
    clip_x_0: bool = True,
    put_back: PutBack | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise every item from its own t0 to 0: DDPM, Algorithm 2, or DDIM.

    A plan with ``resamples`` above 1 goes back up several times, as RePaint (Lugmayr et al. 2022),
    Algorithm 1, does: noise is added to the state and the stretch is denoised again, so that what
    is drawn comes to fit what `put_back` keeps.

    Args:
        denoiser: the denoiser.
        x: the states at each item's t0, float32, (N, C, H, W).
        plans: one per item.
        schedule: the noise schedule the denoiser was trained with.
        clip_x_0: clip each estimate of x_0 to [-1, 1], as is usual for images.
        put_back: applied to x_s after each step, the last (s = 0) included.
        on_step: told of each step.

    Returns:
        x_0, as x.

    Raises:
        ValueError: the number of plans is not N, or a t0 is not in 1..T.
        SamplingCanceledError: ``on_step`` returned False.
    """
    if len(plans) != x.shape[0]:
        raise ValueError(f"{len(plans)} plans for {x.shape[0]} items; give one per item")
    for plan in plans:
        schedule.check_timestep(plan.t0)
    steps = [plan_steps(plan) for plan in plans]
    x = x.clone()
    for number in range(max(map(len, steps), default=0)):
        items = [i for i in range(len(plans)) if number < len(steps[i])]
        now = [steps[i][number] for i in items]
        t = [step.t for step in now]
        eta = [plans[i].noise_scale for i in items]

        x_t = x[items]
        for row, i in enumerate(items):
            if number and steps[i][number - 1].s < now[row].t:
                x_t[row] = _noised_again(x_t[row], plans[i], steps[i], number, schedule=schedule)
        t_tensor = torch.tensor(t, device=x.device)
        output = denoiser(x_t, t_tensor).to(x.dtype)
        x_0 = predict_x_0(x_t, t=t_tensor, output=output, schedule=schedule)
        if clip_x_0:
            x_0 = x_0.clamp(-1.0, 1.0)

        z = torch.zeros_like(x_t)
        for row, i in enumerate(items):
            if eta[row] > 0.0 and now[row].s > 0:
                z[row] = sample_noise(plans[i].seed, *now[row].keys("reverse"), shape=z.shape[1:])
        s = [step.s for step in now]
        x_s = reverse_step(x_t, x_0=x_0, z=z, t=t, s=s, eta=eta, schedule=schedule)
        x[items] = x_s if put_back is None else put_back(x_s, items, now)

        if on_step is not None:
            report = StepReport(step=number + 1, items=tuple(items), t=tuple(t), x_0=x_0)
            if on_step(report) is False:
                raise SamplingCanceledError(f"canceled after {number + 1} steps")
    return x


def faithful_noise(plan: EditPlan, *keys: int | str, shape: Sequence[int]) -> Tensor:
    """Return noise, float32 of shape (C, H, W), without the plan's share of low frequencies."""
    eps = sample_noise(plan.seed, *keys, shape=shape)
    if plan.color_fidelity == 0.0:
        return eps
    sigma = LOW_FREQUENCY_SIGMA * shape[-1]
    return without_low_frequencies(eps, sigma=sigma, amount=plan.color_fidelity)


def _noised_again(
    x_s: Tensor, plan: EditPlan, steps: Sequence[Step], number: int, *, schedule: NoiseSchedule
) -> Tensor:
    """Go up from where the last step ended to where step `number` starts: q(x_t | x_s)."""
    below, step = steps[number - 1].s, steps[number]
    ratio = float(schedule.alpha_bar[step.t] / schedule.alpha_bar[below])
    eps = faithful_noise(plan, *step.keys("again"), shape=x_s.shape).to(x_s)
    return math.sqrt(ratio) * x_s + math.sqrt(1.0 - ratio) * eps
