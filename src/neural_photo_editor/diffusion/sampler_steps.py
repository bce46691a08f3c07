"""The samplers: how each gets from timestep t to s, as the weights of one linear combination.

A sampler is a pure function (step, eta, schedule) -> StepWeights of numbers alone, so the items of
a batch may use different ones: :func:`take_steps` combines the tensors of all of them at once.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import SamplerName, Step
from neural_photo_editor.diffusion.schedule import NoiseSchedule


class StepWeights(NamedTuple):
    """x_s is the sum of these four, each times its weight.

    Attributes:
        x_0: the model's estimate of x_0 from x_t.
        x_0_before: its estimate one step before.
        x_t: the state.
        z: standard normal noise.
    """

    x_0: float
    x_0_before: float
    x_t: float
    z: float


SamplerStep = Callable[[Step, float, NoiseSchedule], StepWeights]


def ddim_step(step: Step, eta: float, schedule: NoiseSchedule) -> StepWeights:
    """DDIM (Song et al. 2021), Eq. 12, with eps taken from x_t and the estimate of x_0.

    Deviation: the paper takes eps from the model. It is the same unless x_0 is clipped; then ours
    keeps x_s on the marginal of the clipped x_0 (diffusers: ``use_clipped_model_output=True``).
    """
    alpha_bar_t, alpha_bar_s = _alpha_bar(step.t, schedule), _alpha_bar(step.s, schedule)
    # Eq. 16.
    beta = 1.0 - alpha_bar_t / alpha_bar_s
    sigma = eta * math.sqrt((1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * beta)
    # Eq. 12 with eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t).
    x_t = math.sqrt(max(0.0, 1.0 - alpha_bar_s - sigma**2) / (1.0 - alpha_bar_t))
    x_0 = math.sqrt(alpha_bar_s) - x_t * math.sqrt(alpha_bar_t)
    return StepWeights(x_0, 0.0, x_t, sigma)


def ddpm_step(step: Step, eta: float, schedule: NoiseSchedule) -> StepWeights:  # noqa: ARG001
    """DDPM (Ho et al. 2020), Eq. 7, respaced as by Nichol & Dhariwal (2021), Eq. 19.

    Ancestral sampling on the schedule of the visited timesteps alone, whose variances are
    beta = 1 - alpha_bar_t / alpha_bar_s, with the posterior variance
    (1 - alpha_bar_s) / (1 - alpha_bar_t) beta. It equals Eq. 12 of DDIM at eta = 1; ``eta`` is not
    used. Visiting all timesteps gives DDPM, Algorithm 2.
    """
    return ddim_step(step, 1.0, schedule)


def dpmpp_2m_step(step: Step, eta: float, schedule: NoiseSchedule) -> StepWeights:  # noqa: ARG001
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095), Algorithm 2; without noise.

    Second order in half the log-SNR lambda: x_0 is extrapolated by half a step from the last two
    estimates. The first step, the first after going back up, and the last are of first order,
    which is DDIM with eta = 0. Deviation: the paper stops at a small t > 0; at s = 0 lambda is
    infinite, so the last step returns the estimate of x_0, whatever the number of steps
    (diffusers: ``final_sigmas_type="zero"``).
    """
    first_order = ddim_step(step, 0.0, schedule)
    if step.t_before is None or step.s == 0:
        return first_order
    lambda_before, lambda_t, lambda_s = (
        _half_log_snr(t, schedule) for t in (step.t_before, step.t, step.s)
    )
    r = (lambda_t - lambda_before) / (lambda_s - lambda_t)
    # D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) x_0_before takes the place of x_0.
    share = first_order.x_0 / (2.0 * r)
    return StepWeights(first_order.x_0 + share, -share, first_order.x_t, 0.0)


SAMPLER_STEPS: dict[SamplerName, SamplerStep] = {
    "ddpm": ddpm_step,
    "ddim": ddim_step,
    "dpmpp_2m": dpmpp_2m_step,
}


def take_steps(
    x_t: Tensor,
    *,
    x_0: Tensor,
    x_0_before: Tensor,
    z: Tensor,
    weights: Sequence[StepWeights],
) -> Tensor:
    """Return x_s of every item.

    Args:
        x_t: the states, float, (N, C, H, W). x_0, x_0_before, z: as ``x_t``; see `StepWeights`.
        weights: one per item.
    """
    # (N, 4) -> four of (N, 1, 1, 1); one copy to the device.
    factors = torch.tensor(weights, dtype=x_t.dtype).T.reshape(4, -1, 1, 1, 1).to(x_t.device)
    return factors[0] * x_0 + factors[1] * x_0_before + factors[2] * x_t + factors[3] * z


def _alpha_bar(t: int, schedule: NoiseSchedule) -> float:
    return float(schedule.alpha_bar[t])


def _half_log_snr(t: int, schedule: NoiseSchedule) -> float:
    """Return lambda_t = log(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)), for t in 1..T.

    At zero terminal SNR it is -inf: r of the step after is infinite and the step of first order.
    """
    alpha_bar_t = _alpha_bar(t, schedule)
    if alpha_bar_t == 0.0:
        return -math.inf
    return 0.5 * math.log(alpha_bar_t / (1.0 - alpha_bar_t))
