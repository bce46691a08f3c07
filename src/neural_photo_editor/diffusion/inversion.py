"""From a photo to the noise that DDIM turns back into it."""

from itertools import pairwise

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import even_timesteps
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.reverse_process import denoise
from neural_photo_editor.diffusion.schedule import NoiseSchedule, signal_noise_tables


@torch.no_grad()
def ddim_invert(
    denoiser: Denoiser,
    x_0: Tensor,
    *,
    t0: int,
    steps: int,
    schedule: NoiseSchedule,
    corrections: int = 0,
) -> Tensor:
    """DDIM (Song et al. 2021), section 4.3: Eq. 13, its ODE, solved from 0 up to t0.

    The inverse of `reverse_process` with the same t0 and steps, sampler "ddim", eta = 0 and
    ``clip_x_0=False``. That goes from x_t to x_s by eps(x_t, t). Here x_t is what is looked for:
    eps(x_s, t) takes its place, with an error that falls with the number of steps. Each correction
    asks again for the x_t just found (Pan et al. 2023, AIDI: a fixed-point iteration).

    Deviation: the paper's Euler step on Eq. 13 asks for eps(x_s, s). The model knows none at
    s = 0, and the way back, which asks at t, then misses the photo by more.

    Args:
        denoiser: the denoiser.
        x_0: float32, (N, 3, H, W), in [-1, 1].
        t0: timestep to reach, 1..T.
        steps: timesteps visited, 1..t0.
        schedule: the noise schedule the denoiser was trained with.
        corrections: network evaluations of each step beyond the first, at least 0.

    Returns:
        x_t0, as ``x_0``.

    Raises:
        ValueError: t0 is not in 1..T, or the last one of a schedule of zero terminal SNR; steps not
            in 1..t0, or corrections below 0.
    """
    schedule.check_timestep(t0)
    if schedule.alpha_bar[t0] == 0.0:
        raise ValueError(
            f"t0 is {t0}, where this schedule leaves nothing of the photo to come back to; "
            f"choose at most {t0 - 1}"
        )
    if corrections < 0:
        raise ValueError(f"corrections is {corrections}; choose at least 0")
    signal, noise = (table.tolist() for table in signal_noise_tables(schedule, x_0.device))
    x = x_0
    for s, t in pairwise(even_timesteps(t0, steps)[::-1]):
        x_s = x
        for _ in range(1 + corrections):
            estimate = denoise(denoiser, x, t=[t] * len(x), schedule=schedule)
            eps = (x - signal[t] * estimate) / noise[t]
            # Eq. 13: d(x / sqrt(alpha_bar)) = eps d(sqrt(1 - alpha_bar) / sqrt(alpha_bar)).
            x = signal[t] / signal[s] * x_s + (noise[t] - signal[t] * noise[s] / signal[s]) * eps
    return x
