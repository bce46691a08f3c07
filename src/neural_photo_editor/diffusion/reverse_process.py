"""The reverse process of a batch whose items may differ in everything: start, steps, sampler, seed.

Noise comes from an item's own seed and timestep, and every operation but the denoiser works item by
item; so does the denoiser on CPUs (`denoise`). An item's result does not depend on its batch.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, Step, plan_steps
from neural_photo_editor.diffusion.noise import sample_noise, without_low_frequencies
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.process import predict_x_0
from neural_photo_editor.diffusion.sampler_steps import SAMPLER_STEPS, take_steps
from neural_photo_editor.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class StepReport:
    """What ``on_step`` is told after each step.

    Attributes:
        step: steps made so far, from 1.
        items: positions in the batch of the n items that took this step.
        t: timesteps they left, in the order of ``items``.
        x_0: the model's estimates of their results, float, (n, 3, H, W): what a preview shows.
    """

    step: int
    items: tuple[int, ...]
    t: tuple[int, ...]
    x_0: Tensor


LOW_FREQUENCY_SIGMA = 1 / 32
"""Sigma of the blur that tells low from high frequencies, as a share of the image's side."""

OnStep = Callable[[StepReport], Collection[int] | None]
"""Called after each step; returns the positions in the batch of the items to give up, if any."""

PutBack = Callable[[Tensor, Sequence[int], Sequence[Step]], Tensor]
"""(x_s of the active items, their positions in the batch, the steps that led to s) -> new x_s."""


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
    """Denoise every item from its own t0 to 0 with its own sampler; see `sampler_steps`.

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
        on_step: told of each step. The items whose positions it returns take no more steps, and
            their rows stay as they are; the other items do not notice.

    Returns:
        x_0, as x. On a CPU an item has the same bytes in every batch. On a GPU, kernels are chosen
        by batch size, and an item differs by what rounding adds up to over the steps: allow 1e-4
        in float32, and 1e-2 in TF32 (torch's default for convolutions) or bfloat16.

    Raises:
        ValueError: the number of plans is not N, or a t0 is not in 1..T.
    """
    if len(plans) != x.shape[0]:
        raise ValueError(f"{len(plans)} plans for {x.shape[0]} items; give one per item")
    for plan in plans:
        schedule.check_timestep(plan.t0)
    steps = [plan_steps(plan, schedule) for plan in plans]
    given_up: set[int] = set()
    x = x.clone()
    x_0_before = torch.zeros_like(x)
    replaced = torch.zeros_like(x, dtype=torch.bool)
    for number in range(max(map(len, steps), default=0)):
        items = [i for i in range(len(plans)) if number < len(steps[i]) and i not in given_up]
        if not items:
            break
        now = [steps[i][number] for i in items]
        chosen = [plans[i] for i in items]

        x_t = x[items]
        if number:
            x_t = _back_up(x_t, [steps[i][number - 1] for i in items], now, chosen, schedule)
        x_0 = denoise(denoiser, x_t, t=[step.t for step in now], schedule=schedule)
        if clip_x_0:
            x_0 = x_0.clamp(-1.0, 1.0)
        # Where the state was replaced, the estimate before belongs to another path.
        before = torch.where(replaced[items], x_0, x_0_before[items])

        x_s = _step_down(x_t, x_0, before, now, chosen, schedule)
        put = x_s if put_back is None else put_back(x_s, items, now)
        x[items], x_0_before[items], replaced[items] = put, x_0, put != x_s

        if on_step is not None:
            t = tuple(step.t for step in now)
            report = StepReport(step=number + 1, items=tuple(items), t=t, x_0=x_0)
            given_up.update(on_step(report) or ())
    return x


def denoise(
    denoiser: Denoiser, x_t: Tensor, *, t: Sequence[int], schedule: NoiseSchedule
) -> Tensor:
    """Estimate x_0 of every item, unclipped, as x_t.

    On a CPU the denoiser sees one item at a time: for another batch size, its libraries sum up in
    another order, in convolutions (oneDNN) and in linear layers. A larger batch is not faster there
    once the weights lie as oneDNN wants them (`prepare_for_inference`).

    Args:
        x_t: float, (N, C, H, W).
        t: N timesteps in 1..T.
    """
    t_tensor = torch.tensor(list(t), device=x_t.device)
    if x_t.device.type == "cpu":
        rows = range(len(x_t))
        output = torch.cat([denoiser(x_t[i : i + 1], t_tensor[i : i + 1]) for i in rows])
    else:
        output = denoiser(x_t, t_tensor)
    return predict_x_0(x_t, t=t_tensor, output=output.to(x_t.dtype), schedule=schedule)


def faithful_noise(plan: EditPlan, *keys: int | str, shape: Sequence[int]) -> Tensor:
    """Return noise, float32 of shape (C, H, W), without the plan's share of low frequencies."""
    eps = sample_noise(plan.seed, *keys, shape=shape)
    if plan.color_fidelity == 0.0:
        return eps
    sigma = LOW_FREQUENCY_SIGMA * shape[-1]
    return without_low_frequencies(eps, sigma=sigma, amount=plan.color_fidelity)


def _step_down(
    x_t: Tensor,
    x_0: Tensor,
    x_0_before: Tensor,
    steps: Sequence[Step],
    plans: Sequence[EditPlan],
    schedule: NoiseSchedule,
) -> Tensor:
    weights = [
        SAMPLER_STEPS[plan.sampler](step, plan.eta, schedule)
        for step, plan in zip(steps, plans, strict=True)
    ]
    z = torch.zeros_like(x_t)
    for row, (step, plan) in enumerate(zip(steps, plans, strict=True)):
        if weights[row].z > 0.0:
            z[row] = sample_noise(plan.seed, *step.keys("reverse"), shape=z.shape[1:])
    return take_steps(x_t, x_0=x_0, x_0_before=x_0_before, z=z, weights=weights)


def _back_up(
    x: Tensor,
    before: Sequence[Step],
    steps: Sequence[Step],
    plans: Sequence[EditPlan],
    schedule: NoiseSchedule,
) -> Tensor:
    """Go up from where the step before ended to where the next starts, if higher: q(x_t | x_s)."""
    x_t = x.clone()
    for row, (last, step, plan) in enumerate(zip(before, steps, plans, strict=True)):
        if step.t > last.s:
            ratio = float(schedule.alpha_bar[step.t] / schedule.alpha_bar[last.s])
            eps = faithful_noise(plan, *step.keys("again"), shape=x.shape[1:]).to(x)
            x_t[row] = math.sqrt(ratio) * x[row] + math.sqrt(1.0 - ratio) * eps
    return x_t
