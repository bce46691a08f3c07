"""The training objective of the denoiser."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.diffusion.process import add_noise, training_target
from neural_photo_editor.diffusion.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A denoiser: (x_t float (N, 3, H, W), t int64 (N,) in 1..T) -> predicted eps or v, as x_t."""


def denoising_loss(
    denoiser: Denoiser, x_0: Tensor, *, t: Tensor, eps: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """DDPM (Ho et al. 2020), Eq. 14, L_simple, kept per item: mean |eps - denoiser(x_t, t)|^2.

    Where the schedule says so, v takes the place of eps.

    Args:
        denoiser: the denoiser.
        x_0: float, (N, 3, H, W), in [-1, 1].
        t: int64, (N,), in 1..T.
        eps: standard normal noise, the shape of ``x_0``.
        schedule: the noise schedule.

    Returns:
        The loss of each item, float32, (N,), whatever precision the model ran in.
    """
    x_t = add_noise(x_0, t=t, eps=eps, schedule=schedule)
    target = training_target(x_0, t=t, eps=eps, schedule=schedule)
    difference = F.mse_loss(denoiser(x_t, t).float(), target.float(), reduction="none")
    return difference.flatten(start_dim=1).mean(dim=1)


def min_snr_weights(schedule: NoiseSchedule, *, gamma: float) -> Tensor:
    """Min-SNR-gamma (Hang et al. 2023): the weight of each timestep's loss.

    The loss of x_0 gets the weight min(SNR_t, gamma). By what the denoiser puts out, that of eps is
    SNR_t times the loss of x_0 and that of v is SNR_t + 1 times, so that the weights here are
    min(SNR_t, gamma) / SNR_t and min(SNR_t, gamma) / (SNR_t + 1). They keep the timesteps of little
    noise, which are easy and many, from deciding each step's direction. The paper's gamma is 5.

    Args:
        schedule: the noise schedule; its prediction decides.
        gamma: the largest weight of the loss of x_0, above 0.

    Returns:
        float64, (T + 1,), indexed by t; 0 at t = 0, which is not trained.

    Raises:
        ValueError: gamma is not positive, or the weight of t = T would be 0.
    """
    if not gamma > 0.0:
        raise ValueError(f"min_snr_gamma is {gamma}; choose a positive number, 5 as in the paper")
    alpha_bar = schedule.alpha_bar[1:]
    if alpha_bar[-1] == 0.0:
        raise ValueError(
            "min_snr_gamma gives the weight 0 to the last timestep of a schedule with "
            "zero_terminal_snr, where sampling starts; set min_snr_gamma to null, or "
            "zero_terminal_snr to false"
        )
    snr = alpha_bar / (1.0 - alpha_bar)
    weights = snr.clamp_max(gamma) / (snr if schedule.prediction == "epsilon" else snr + 1.0)
    return torch.cat([weights.new_zeros(1), weights])


@lru_cache(maxsize=16)
def min_snr_table(schedule: NoiseSchedule, gamma: float, device: torch.device) -> Tensor:
    """Return `min_snr_weights` in float32 on a device, kept so that a step copies nothing there."""
    with torch.inference_mode(False):  # Training may use what validation asked for first.
        return min_snr_weights(schedule, gamma=gamma).to(torch.float32).to(device)
