"""The training objective of the denoiser."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.schedule import NoiseSchedule

EpsModel = Callable[[Tensor, Tensor], Tensor]
"""A denoiser: (x_t float (N, 3, H, W), t int64 (N,) in 1..T) -> predicted eps, as x_t."""


def epsilon_loss(
    eps_model: EpsModel, x_0: Tensor, *, t: Tensor, eps: Tensor, schedule: NoiseSchedule
) -> Tensor:
    """DDPM (Ho et al. 2020), Eq. 14, L_simple, kept per item: mean |eps - eps_model(x_t, t)|^2.

    Args:
        eps_model: the denoiser.
        x_0: float, (N, 3, H, W), in [-1, 1].
        t: int64, (N,), in 1..T.
        eps: standard normal noise, the shape of ``x_0``.
        schedule: the noise schedule.

    Returns:
        The loss of each item, float32, (N,), whatever precision the model ran in.
    """
    x_t = add_noise(x_0, t=t, eps=eps, schedule=schedule)
    difference = F.mse_loss(eps_model(x_t, t).float(), eps.float(), reduction="none")
    return difference.flatten(start_dim=1).mean(dim=1)
