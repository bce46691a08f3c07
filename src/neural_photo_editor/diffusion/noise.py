"""Noise that is a function of what it is for: a request's seed and use, or a training sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neural_photo_editor.common.seeding import derive_seed


def sample_noise(
    seed: int, *keys: int | str, shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Return standard normal noise, float32, of a shape, from a seed and what it is used for.

    Drawn on the CPU and then moved, so that every device sees the same noise.

    Args:
        seed: the request's seed, any integer.
        keys: name the use, e.g. ``"known", 120``; other keys give independent noise.
        shape: shape of the result.
        device: device of the result.
    """
    return torch.randn(tuple(shape), generator=_generator(seed, *keys)).to(device)


def training_noise(
    seed: int,
    *,
    epoch: int,
    sample_ids: Sequence[int] | Tensor,
    shape: Sequence[int],
    num_timesteps: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw the timestep and the noise of every sample of a training batch.

    Each item depends on (seed, epoch, sample id) alone: neither on its batch, nor on the number
    of processes, nor on whether the run was resumed.

    Args:
        seed: seed of the run.
        epoch: epoch, from 0.
        sample_ids: ids of the N samples; int64, (N,), when a tensor.
        shape: shape of one item, (C, H, W).
        num_timesteps: T of the noise schedule.
        device: device of the results.

    Returns:
        t: int64, (N,), uniform in 1..T.
        eps: float32, (N, C, H, W), standard normal.
    """
    ids = sample_ids.tolist() if isinstance(sample_ids, Tensor) else [int(i) for i in sample_ids]
    t = torch.empty(len(ids), dtype=torch.int64)
    eps = torch.empty((len(ids), *shape), dtype=torch.float32)
    for row, sample_id in enumerate(ids):
        generator = _generator(seed, "training", epoch, sample_id)
        t[row] = torch.randint(1, num_timesteps + 1, (), generator=generator)
        eps[row] = torch.randn(tuple(shape), generator=generator)
    return t.to(device, non_blocking=True), eps.to(device, non_blocking=True)


def _generator(*parts: int | str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive_seed(*parts))
