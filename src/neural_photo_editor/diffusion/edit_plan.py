"""What one item of a batch asks of the reverse process, and the steps that makes."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch

from neural_photo_editor.diffusion.schedule import NoiseSchedule

SamplerName = Literal["ddpm", "ddim", "dpmpp_2m"]
"""Ancestral sampling, DDIM and DPM-Solver++(2M); see `sampler_steps`."""

LOWEST_SNR_DB = -45.0
"""Lower signal-to-noise ratios count as this one where steps are spaced by it: there is nothing to
see there, and at zero terminal SNR no end to it. DPM-Solver's authors cut the cosine schedule at
-41 dB; the linear one of 1,000 timesteps ends at -44."""


@dataclass(frozen=True)
class EditPlan:
    """How one item of a batch is denoised.

    Attributes:
        t0: first timestep, 1..T.
        steps: timesteps visited, 1..t0; fewer than t0 gives a strided run.
        sampler: "ddpm" (ancestral; respaced when steps < t0), "ddim" or "dpmpp_2m".
        seed: the only source of the item's noise; any integer.
        eta: DDIM's noise scale in 0..1 (0 is deterministic); the other samplers ignore it.
        resamples: how often each stretch is denoised (RePaint's r); 1 is the plain process.
        jump_length: steps in such a stretch (RePaint's j).
        color_fidelity: how far the noise of start and resampling spares the local mean colors of
            what is painted, in 0..1; see `masked_editing`. 0 is white noise.
    """

    t0: int
    steps: int
    sampler: SamplerName = "ddpm"
    seed: int = 0
    eta: float = 0.0
    resamples: int = 1
    jump_length: int = 1
    color_fidelity: float = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.t0, self.steps)
        if self.sampler not in get_args(SamplerName):
            raise ValueError(f"sampler is {self.sampler!r}; choose one of {get_args(SamplerName)}")
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta is {self.eta}; choose a number from 0 to 1")
        if self.resamples < 1 or self.jump_length < 1:
            raise ValueError(
                f"resamples is {self.resamples}, jump_length {self.jump_length}; choose at least 1"
            )
        if not 0.0 <= self.color_fidelity <= 1.0:
            raise ValueError(
                f"color_fidelity is {self.color_fidelity}; choose a number from 0 to 1"
            )


class Step(NamedTuple):
    """One network evaluation: from timestep ``t`` down to ``s``, for the ``visit``-th time.

    ``t_before`` is where the step that ended at t began; None where none did: at the start and
    after going back up.
    """

    t: int
    s: int
    visit: int = 0
    t_before: int | None = None

    def keys(self, use: str) -> tuple[str | int, ...]:
        """Name the noise of this step; a repeated step gets other noise."""
        return (use, self.t, self.visit) if self.visit else (use, self.t)


def even_timesteps(t0: int, steps: int) -> list[int]:
    """Return steps + 1 evenly spaced timesteps from t0 down to 0, both included.

    Raises:
        ValueError: steps is not in 1..t0.
    """
    _check_steps(t0, steps)
    # Rounds i * t0 / steps half up in integers: never twice the same timestep.
    return [(2 * t0 * i + steps) // (2 * steps) for i in range(steps, -1, -1)]


def log_snr_timesteps(t0: int, steps: int, schedule: NoiseSchedule) -> list[int]:
    """Return steps + 1 timesteps: from t0 down to 1 evenly spaced in log-SNR, then 0.

    They are the nearest whole ones; where several would be the same, the next ones above. The first
    step crosses what lies below LOWEST_SNR_DB.

    Raises:
        ValueError: steps is not in 1..t0.
    """
    _check_steps(t0, steps)
    if steps == 1:
        return [t0, 0]
    alpha_bar = schedule.alpha_bar[1 : t0 + 1]
    log_snr = torch.log(alpha_bar / (1.0 - alpha_bar))
    log_snr = log_snr.clamp_min(LOWEST_SNR_DB / 10.0 * math.log(10.0))
    wanted = torch.lerp(log_snr[0], log_snr[-1], torch.linspace(0, 1, steps, dtype=log_snr.dtype))
    timesteps = [0]
    for number, value in enumerate(wanted, start=1):
        nearest = 1 + int((log_snr - value).abs().argmin())
        # Distinct from the one below, with room for those above.
        timesteps.append(min(max(nearest, timesteps[-1] + 1), t0 - (steps - number)))
    return [t0, *timesteps[-2::-1]]


def plan_steps(plan: EditPlan, schedule: NoiseSchedule) -> list[Step]:
    """Return the steps of a plan: from t0 to 0, with the detours of its resampling.

    DPM-Solver++(2M) visits timesteps evenly spaced in log-SNR, as its authors do: with even
    timesteps log-SNR falls in leaps near t = 0, and hardly anything is left of the second order.

    RePaint (Lugmayr et al. 2022), Algorithm 1, on the timesteps the plan visits: whenever
    ``jump_length`` steps end at a multiple of that length above 0, the state goes back up by as
    many and the stretch is walked again, ``resamples`` times in all. Deviation: nothing is
    resampled from t = 0, where the result is clean.
    """
    timesteps = (
        log_snr_timesteps(plan.t0, plan.steps, schedule)
        if plan.sampler == "dpmpp_2m"
        else even_timesteps(plan.t0, plan.steps)
    )[::-1]
    jumps = dict.fromkeys(
        range(plan.jump_length, plan.steps - plan.jump_length + 1, plan.jump_length),
        plan.resamples - 1,
    )
    steps: list[Step] = []
    visits = [0] * len(timesteps)
    level = plan.steps  # Index in `timesteps`: how many of them are left.
    t_before = None
    while level:
        steps.append(Step(timesteps[level], timesteps[level - 1], visits[level], t_before))
        visits[level] += 1
        t_before = timesteps[level]
        level -= 1
        if jumps.get(level, 0):
            jumps[level] -= 1
            level += plan.jump_length
            t_before = None
    return steps


def _check_steps(t0: int, steps: int) -> None:
    if not 1 <= steps <= t0:
        raise ValueError(f"steps is {steps}; choose from 1 to the start timestep {t0}")
