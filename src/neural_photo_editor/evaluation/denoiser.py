"""Judging a denoiser: its loss over the timesteps, and images drawn from pure noise."""

from pathlib import Path

import torch
from torch import Tensor, nn

from neural_photo_editor.common.seeding import derive_seed
from neural_photo_editor.diffusion.edit_plan import SamplerName
from neural_photo_editor.diffusion.noise import training_noise
from neural_photo_editor.diffusion.objective import denoising_loss
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.diffusion.timestep_ranges import (
    sum_by_timestep_range,
    timestep_range_names,
)
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.held_out import Batches
from neural_photo_editor.evaluation.pictures import enlarge, save_grid, to_pictures
from neural_photo_editor.imaging.value_range import to_model_range

PICTURE_PX = 128


def evaluate_denoiser(
    network: nn.Module,
    batches: Batches,
    *,
    schedule: NoiseSchedule,
    out_dir: Path,
    sampling_steps: dict[SamplerName, int],
    num_images: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> EvaluationResult:
    """Measure the denoiser's loss on held-out photos and draw images with fixed seeds.

    Args:
        network: eps_theta(x_t, t).
        batches: held-out photos.
        schedule: the noise schedule it was trained with.
        out_dir: receives ``samples.png``, one row per sampler.
        sampling_steps: network evaluations of each sampler to draw with.
        num_images: images per sampler.
        seed: of the noise.
        device: where to compute.

    Raises:
        ValueError: there are no photos.
    """
    network = network.to(device)
    losses, timesteps, sums = [], [], torch.zeros(())
    with torch.inference_mode():
        for batch in batches:
            x_0 = to_model_range(batch["image"]).to(device)
            t, eps = training_noise(
                derive_seed(seed, "evaluation"),
                epoch=0,
                sample_ids=batch["sample_id"],
                shape=x_0.shape[1:],
                num_timesteps=schedule.num_timesteps,
                device=device,
            )
            losses.append(denoising_loss(network, x_0, t=t, eps=eps, schedule=schedule).cpu())
            timesteps.append(t.cpu())
            sums = sums + x_0.sum(dim=0).cpu()
        if not losses:
            raise ValueError("there are no held-out photos to evaluate the denoiser on")
        loss, t = torch.cat(losses), torch.cat(timesteps)
        rows = {
            f"{sampler}, {steps} steps": sample(
                network,
                shape=sums.shape,
                schedule=schedule,
                seeds=[derive_seed(seed, "evaluation grid", i) for i in range(num_images)],
                sampler=sampler,
                steps=min(steps, schedule.num_timesteps),
                # The schedule leaves a trace of the data's mean in x_T.
                mean_x_0=sums / len(loss),
                device=device,
            )
            for sampler, steps in sampling_steps.items()
        }
    save_grid(
        [[enlarge(picture, PICTURE_PX) for picture in to_pictures(row)] for row in rows.values()],
        out_dir / "samples.png",
    )
    metrics = {"loss": float(loss.mean()), **_loss_by_timestep(loss, t, schedule.num_timesteps)}
    return EvaluationResult("denoiser", len(loss), metrics, ["samples.png"])


def _loss_by_timestep(loss: Tensor, t: Tensor, num_timesteps: int) -> dict[str, float]:
    """Average the loss, (N,), by quarter of t, (N,); quarters without a sample are left out."""
    sums, counts = sum_by_timestep_range(loss, t, num_timesteps=num_timesteps)
    names = timestep_range_names(num_timesteps)
    return {
        f"loss/{name}": float(total / count)
        for name, total, count in zip(names, sums, counts, strict=True)
        if count
    }
