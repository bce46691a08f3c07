"""The forward process and its inverse, in closed form."""

from torch import Tensor

from neural_photo_editor.diffusion.schedule import NoiseSchedule, signal_noise_tables


def add_noise(x_0: Tensor, *, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """DDPM (Ho et al. 2020), Eq. 4: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.

    Args:
        x_0: float, (N, C, H, W), in [-1, 1].
        t: int64, (N,), in 0..T on the device of ``x_0``; t = 0 returns ``x_0`` exactly.
        eps: standard normal noise, the shape and dtype of ``x_0``.
        schedule: the noise schedule.

    Returns:
        x_t, the shape and dtype of ``x_0``.
    """
    signal, noise = _coefficients(x_0, t=t, schedule=schedule)
    return signal * x_0 + noise * eps


def training_target(x_0: Tensor, *, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """What the denoiser should put out: eps, or v of Salimans & Ho (2022), section 4.

    v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0. Shapes and dtypes as in
    :func:`add_noise`.
    """
    if schedule.prediction == "epsilon":
        return eps
    signal, noise = _coefficients(x_0, t=t, schedule=schedule)
    return signal * eps - noise * x_0


def predict_x_0(x_t: Tensor, *, t: Tensor, output: Tensor, schedule: NoiseSchedule) -> Tensor:
    """DDPM, Eq. 15, or Salimans & Ho (2022): the x_0 that a denoiser's output stands for.

    The inverse of :func:`training_target` after :func:`add_noise`. Shapes and dtypes as there,
    with t in 1..T; the result is not clipped.
    """
    signal, noise = _coefficients(x_t, t=t, schedule=schedule)
    if schedule.prediction == "epsilon":
        return (x_t - noise * output) / signal
    return signal * x_t - noise * output


def _coefficients(x: Tensor, *, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    signal, noise = signal_noise_tables(schedule, x.device)
    # (N,) -> (N, 1, 1, 1)
    axes = (-1,) + (1,) * (x.ndim - 1)
    return signal[t].reshape(axes).to(x.dtype), noise[t].reshape(axes).to(x.dtype)
