"""The training objective of the denoiser."""

from collections.abc import Callable

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
