"""Editing inside a mask: the reverse process with the known region put back at every step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, Step
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.reverse_process import (
    OnStep,
    StepReport,
    faithful_noise,
    reverse_process,
)
from neural_photo_editor.diffusion.schedule import NoiseSchedule

__all__ = ["EditPlan", "OnStep", "StepReport", "masked_edit"]


def masked_edit(
    denoiser: Denoiser,
    u_0: Tensor,
    *,
    x_0: Tensor,
    mask: Tensor,
    plans: Sequence[EditPlan],
    schedule: NoiseSchedule,
    clip_x_0: bool = True,
    start: Tensor | None = None,
    surroundings: Sequence[bool] | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """SDEdit (Meng et al. 2022), Algorithm 2, with RePaint's (Lugmayr et al. 2022) Eq. 8.

    The painted photo is noised to t0 and denoised; after every step, the last included, the
    pixels outside the mask are replaced by the photo noised to the same timestep, with noise of
    their own (Eq. 8a; line 5 of RePaint's Algorithm 1 lacks its square root). At t = 0 that is
    the photo itself, so the result equals ``x_0`` outside the mask exactly. The items of a
    batch may differ in mask, start, steps, sampler and seed; each gives what it gives alone, with
    the same bytes on a CPU (see `reverse_process`).

    White noise hides the color of what is painted: at an SNR of 0 dB the mean over 4 x 4 pixels is
    still wrong by a quarter of the noise, which a denoiser cannot tell from paint and returns as
    patches of other hues. A plan's ``color_fidelity`` is the share of the low frequencies that is
    left out of the noise of the start (and of resampling), so that local mean colors arrive while
    everything finer is drawn anew.

    Args:
        denoiser: the denoiser.
        u_0: the painted photo (the photo outside the strokes), float32, (N, 3, H, W), in [-1, 1].
        x_0: the photo, as ``u_0``.
        mask: bool, or float in [0, 1], (N, 1, H, W); 1 = edit. Between, each step mixes the means:
            m x_s + (1 - m) sqrt(alpha_bar_s) x_0 + sqrt(1 - m^2) sqrt(1 - alpha_bar_s) eps.
            Deviation: Eq. 8 with fractions would mix the noise too, which leaves half of its
            variance at m = 0.5, and a denoiser takes what is missing for detail. The pull towards
            the photo adds up over the steps.
        plans: one per item.
        schedule: the noise schedule the denoiser was trained with.
        clip_x_0: clip each estimate of x_0 to [-1, 1].
        start: int64, (N, 1, H, W): the timestep at which each pixel joins the denoising, or the
            nearest that its plan visits; above t0 it counts as t0. Until then the pixel is the
            painted photo noised to the timestep of the others; a pixel of start 0 stays as painted.
            Differential Diffusion (Levin & Fried 2023), Algorithm 1. None is t0 everywhere.
        surroundings: of each item, whether its result shows the model's last estimate outside the
            mask, rather than the photo. At the mask's border that estimate goes on as the edit
            does, while the photo may not: gradient-domain blending needs the difference.
        on_step: told of each step; returns the items to give up.

    Returns:
        The edited photo, as ``u_0``. An item given up holds the state it had reached.

    Raises:
        ValueError: shapes, types, the mask's values or a plan do not fit.
    """
    _check(u_0, x_0=x_0, mask=mask, plans=plans, start=start)
    surroundings = tuple(surroundings or (False,) * len(plans))
    if len(surroundings) != len(plans):
        raise ValueError(f"{len(surroundings)} surroundings for {len(plans)} plans; give as many")
    for plan in plans:
        schedule.check_timestep(plan.t0)
    start = None if start is None else start.to(x_0.device)
    edit = _Edit(u_0, x_0, mask.to(x_0), tuple(plans), schedule, start, surroundings)
    everyone = list(range(len(plans)))
    return reverse_process(
        denoiser,
        edit.painted(everyone, [Step(plan.t0, s=0) for plan in plans]),
        plans=plans,
        schedule=schedule,
        clip_x_0=clip_x_0,
        put_back=edit.put_back,
        on_step=on_step,
    )


@dataclass(frozen=True)
class _Edit:
    """The arguments of `masked_edit`, and what of them is put into the state of some items."""

    u_0: Tensor
    x_0: Tensor
    mask: Tensor
    plans: tuple[EditPlan, ...]
    schedule: NoiseSchedule
    start: Tensor | None
    surroundings: tuple[bool, ...]

    def put_back(self, x_s: Tensor, items: Sequence[int], steps: Sequence[Step]) -> Tensor:
        """Replace what has not joined yet, and mix with the photo; as `PutBack` says."""
        reached = [step._replace(t=step.s) for step in steps]
        if self.start is not None:
            waits = _waits(self.start[items], steps)
            x_s = torch.where(waits, self.painted(items, reached), x_s)
        m = self.mask[items]
        draws = [
            sample_noise(self.plans[i].seed, *step.keys("known"), shape=x_s.shape[1:])
            for i, step in zip(items, reached, strict=True)
        ]
        eps = (1.0 - m.square()).sqrt() * torch.stack(draws).to(x_s)
        known = self._noised((1.0 - m) * self.x_0[items], reached, eps)
        mixed = torch.where(m == 0.0, known, m * x_s + known)
        for row, (i, step) in enumerate(zip(items, steps, strict=True)):
            if step.s == 0 and self.surroundings[i]:
                mixed[row] = x_s[row]
        return mixed

    def painted(self, items: Sequence[int], steps: Sequence[Step]) -> Tensor:
        """Return the painted photos noised to t of each step.

        The noise is named by that timestep alone: joining at t is starting at t.
        """
        draws = [
            faithful_noise(self.plans[i], *step.keys("start"), shape=self.u_0.shape[1:])
            for i, step in zip(items, steps, strict=True)
        ]
        return self._noised(self.u_0[items], steps, torch.stack(draws).to(self.u_0))

    def _noised(self, image: Tensor, steps: Sequence[Step], eps: Tensor) -> Tensor:
        t = torch.tensor([step.t for step in steps], device=image.device)
        return add_noise(image, t=t, eps=eps, schedule=self.schedule)


def _waits(start: Tensor, steps: Sequence[Step]) -> Tensor:
    """Tell where `start`, (n, 1, H, W), is nearer to the s than to the t of a step, or below s."""
    # Twice the middle of each step, (n, 1, 1, 1).
    middle = torch.tensor([step.t + step.s for step in steps], device=start.device)
    return 2 * start < middle.reshape(-1, 1, 1, 1)


def _check(
    u_0: Tensor,
    *,
    x_0: Tensor,
    mask: Tensor,
    plans: Sequence[EditPlan],
    start: Tensor | None,
) -> None:
    if u_0.shape != x_0.shape:
        raise ValueError(f"painted photo {tuple(u_0.shape)} and photo {tuple(x_0.shape)} differ")
    per_pixel = (x_0.shape[0], 1, *x_0.shape[2:])
    if mask.shape != per_pixel or not (mask.dtype == torch.bool or mask.is_floating_point()):
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; expected bool or float {per_pixel}"
        )
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("mask has values outside 0..1; scale it")
    if start is not None and (start.shape != per_pixel or start.dtype != torch.int64):
        raise ValueError(
            f"start is {start.dtype} {tuple(start.shape)}; expected int64 {per_pixel}, timesteps"
        )
    if start is not None and bool((start < 0).any()):
        raise ValueError("start has negative timesteps; 0 keeps a pixel as painted")
    if len(plans) != x_0.shape[0]:
        raise ValueError(f"{len(plans)} plans for {x_0.shape[0]} items; give one per item")
