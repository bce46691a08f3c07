"""Noise that is a function of what it is for: a request's seed and use, or a training sample."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.common.seeding import derive_seed

_DRAWING_THREADS = {"cuda": 8}
"""By device: a GPU waits for the noise, and a core draws 0.2 ms for 128 x 128 pixels."""


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
    num_threads = _DRAWING_THREADS.get(torch.device(device).type, 1)
    for_gpu = torch.device(device).type == "cuda"
    t = torch.empty(len(ids), dtype=torch.int64, pin_memory=for_gpu)
    eps = torch.empty((len(ids), *shape), dtype=torch.float32, pin_memory=for_gpu)

    def draw(row: int) -> None:
        generator = _generator(seed, "training", epoch, ids[row])
        t[row] = torch.randint(1, num_timesteps + 1, (), generator=generator)
        torch.randn(tuple(shape), generator=generator, out=eps[row])

    if num_threads == 1:
        for row in range(len(ids)):
            draw(row)
    else:
        with ThreadPoolExecutor(num_threads) as threads:
            list(threads.map(draw, range(len(ids))))
    return t.to(device, non_blocking=True), eps.to(device, non_blocking=True)


def without_low_frequencies(eps: Tensor, *, sigma: float, amount: float) -> Tensor:
    """Take from noise a share of what a Gaussian blur of it holds.

    Args:
        eps: float, (C, H, W).
        sigma: standard deviation of the Gaussian, in pixels, > 0.
        amount: 0 leaves the noise white; 1 leaves hardly anything of wavelengths above
            2 pi sigma pixels (1 - exp(-2 pi^2 sigma^2 f^2) of frequency f).

    Returns:
        As ``eps``, with the image's border reflected.
    """
    height, width = eps.shape[-2:]
    radius = min(math.ceil(3.0 * sigma), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=eps.dtype, device=eps.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(eps.unsqueeze(1), (radius,) * 4, mode="reflect")
    low = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return eps - amount * low.squeeze(1)


def _generator(*parts: int | str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive_seed(*parts))
