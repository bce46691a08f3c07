"""Editing inside a mask: the reverse process with the known region put back at every step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, Step
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.reverse_process import (
    OnStep,
    SamplingCanceledError,
    StepReport,
    faithful_noise,
    reverse_process,
)
from neural_photo_editor.diffusion.schedule import NoiseSchedule

__all__ = ["EditPlan", "SamplingCanceledError", "StepReport", "masked_edit"]


def masked_edit(
    denoiser: Denoiser,
    u_0: Tensor,
    *,
    x_0: Tensor,
    mask: Tensor,
    plans: Sequence[EditPlan],
    schedule: NoiseSchedule,
    clip_x_0: bool = True,
    on_step: OnStep | None = None,
) -> Tensor:
    """SDEdit (Meng et al. 2022), Algorithm 2, with RePaint's (Lugmayr et al. 2022) Eq. 8.

    The painted photo is noised to t0 and denoised; after every step, the last included, the
    pixels outside the mask are replaced by the photo noised to the same timestep. At t = 0 that
    is the photo itself, so the result equals ``x_0`` outside the mask exactly. The items of a
    batch may differ in mask, start, steps, sampler and seed; each gives what it gives alone, as
    far as the denoiser itself does not depend on the batch.

    White noise hides the color of what is painted: at an SNR of 0 dB the mean over 4 x 4 pixels is
    still wrong by a quarter of the noise, which a denoiser cannot tell from paint and returns as
    patches of other hues. A plan's ``color_fidelity`` is the share of the low frequencies that is
    left out of the noise of the start (and of resampling), so that local mean colors arrive while
    everything finer is drawn anew.

    Args:
        denoiser: the denoiser.
        u_0: the painted photo (the photo outside the strokes), float32, (N, 3, H, W), in [-1, 1].
        x_0: the photo, as ``u_0``.
        mask: bool, (N, 1, H, W); True = edit.
        plans: one per item.
        schedule: the noise schedule the denoiser was trained with.
        clip_x_0: clip each estimate of x_0 to [-1, 1].
        on_step: told of each step; returning False cancels.

    Returns:
        The edited photo, as ``u_0``.

    Raises:
        ValueError: shapes, the mask's type or a plan do not fit.
        SamplingCanceledError: ``on_step`` returned False.
    """
    if u_0.shape != x_0.shape:
        raise ValueError(f"painted photo {tuple(u_0.shape)} and photo {tuple(x_0.shape)} differ")
    if mask.dtype != torch.bool or mask.shape != (x_0.shape[0], 1, *x_0.shape[2:]):
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; expected bool (N, 1, H, W) of the photo"
        )
    if len(plans) != x_0.shape[0]:
        raise ValueError(f"{len(plans)} plans for {x_0.shape[0]} items; give one per item")

    def noised(image: Tensor, t: Sequence[int], draws: Sequence[Tensor]) -> Tensor:
        eps = torch.stack(list(draws)).to(image)
        return add_noise(image, t=torch.tensor(t, device=image.device), eps=eps, schedule=schedule)

    def put_back(x_s: Tensor, items: Sequence[int], steps: Sequence[Step]) -> Tensor:
        s = [step.s for step in steps]
        draws = [
            # Named by the timestep it is noised to.
            sample_noise(plans[i].seed, *step._replace(t=step.s).keys("known"), shape=x_0.shape[1:])
            for i, step in zip(items, steps, strict=True)
        ]
        return torch.where(mask[items], x_s, noised(x_0[items], s, draws))

    for plan in plans:
        schedule.check_timestep(plan.t0)
    starts = [faithful_noise(plan, "start", plan.t0, shape=u_0.shape[1:]) for plan in plans]
    x_t0 = noised(u_0, [plan.t0 for plan in plans], starts)
    return reverse_process(
        denoiser,
        x_t0,
        plans=plans,
        schedule=schedule,
        clip_x_0=clip_x_0,
        put_back=put_back,
        on_step=on_step,
    )
