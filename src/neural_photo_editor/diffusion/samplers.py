"""Sampling whole images from pure noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.reverse_process import OnStep, reverse_process
from neural_photo_editor.diffusion.schedule import NoiseSchedule


def sample(
    denoiser: Denoiser,
    *,
    shape: Sequence[int],
    schedule: NoiseSchedule,
    seeds: Sequence[int],
    sampler: SamplerName = "ddpm",
    steps: int | None = None,
    eta: float = 0.0,
    mean_x_0: Tensor | None = None,
    clip_x_0: bool = True,
    device: torch.device | str = "cpu",
    on_step: OnStep | None = None,
) -> Tensor:
    """DDPM (Ho et al. 2020), Algorithm 2, or another sampler, from T to 0; one image per seed.

    Deviation: a schedule that does not end at zero signal leaves sqrt(alpha_bar_T) of the data's
    mean in the terminal marginal. ``mean_x_0`` adds it; without it the start is N(0, I), which is
    the marginal of data centered on 0.

    Args:
        denoiser: the denoiser.
        shape: shape of one image, (C, H, W).
        schedule: the noise schedule the denoiser was trained with.
        seeds: one per image.
        sampler: see `sampler_steps`.
        steps: network evaluations, 1..T; all T when absent.
        eta: DDIM's noise scale in 0..1.
        mean_x_0: mean of the data, broadcastable to ``shape``, in [-1, 1].
        clip_x_0: clip each estimate of x_0 to [-1, 1].
        device: device the model runs on.
        on_step: told of each step; returns the positions of images to give up.

    Returns:
        float32, (len(seeds), C, H, W), in [-1, 1] when clipped.

    Raises:
        ValueError: steps, sampler or eta out of range.
    """
    t0 = schedule.num_timesteps
    steps = t0 if steps is None else steps
    plans = [EditPlan(t0=t0, steps=steps, sampler=sampler, seed=seed, eta=eta) for seed in seeds]
    x = torch.stack([sample_noise(seed, "start", shape=shape) for seed in seeds]).to(device)
    if mean_x_0 is not None:
        x = x + float(schedule.alpha_bar[t0]) ** 0.5 * mean_x_0.to(x)
    return reverse_process(
        denoiser, x, plans=plans, schedule=schedule, clip_x_0=clip_x_0, on_step=on_step
    )
