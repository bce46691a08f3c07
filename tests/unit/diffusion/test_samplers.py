"""Samplers against closed-form Gaussian data, one step of diffusers', and each other."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import SamplerName, timestep_sequence
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.process import predict_x_0
from neural_photo_editor.diffusion.reverse_process import (
    SamplingCanceledError,
    StepReport,
    reverse_step,
)
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.linear()
MEAN, STD = 0.3, 0.4


def gaussian_oracle(x_t: Tensor, t: Tensor) -> Tensor:
    """E[eps | x_t] when every pixel of the data is N(MEAN, STD^2)."""
    alpha_bar_t = SCHEDULE.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
    variance = alpha_bar_t * STD**2 + 1 - alpha_bar_t
    return (1 - alpha_bar_t).sqrt() * (x_t - alpha_bar_t.sqrt() * MEAN) / variance


@pytest.mark.parametrize(
    ("sampler", "steps", "eta"),
    [("ddpm", 500, 0.0), ("ddim", 500, 0.0), ("ddim", 500, 0.5), ("ddim", 100, 0.0)],
)
def test_gaussian_data_is_reproduced(sampler: SamplerName, steps: int, eta: float) -> None:
    result = sample(
        gaussian_oracle,
        shape=(3, 128, 128),
        schedule=SCHEDULE,
        seeds=[1],
        sampler=sampler,
        steps=steps,
        eta=eta,
        mean_x_0=torch.tensor(MEAN),
        clip_x_0=False,
    )
    assert float(result.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(result.std()) == pytest.approx(STD, rel=0.03)


@pytest.mark.parametrize(
    ("t0", "steps", "expected"),
    [
        (4, 4, [4, 3, 2, 1, 0]),
        (500, 4, [500, 375, 250, 125, 0]),
        (7, 3, [7, 5, 2, 0]),
        (1, 1, [1, 0]),
    ],
)
def test_timestep_sequence(t0: int, steps: int, expected: list[int]) -> None:
    assert timestep_sequence(t0, steps) == expected


def test_timestep_sequences_always_descend() -> None:
    for t0 in (1, 2, 9, 67, 200):
        for steps in range(1, t0 + 1):
            sequence = timestep_sequence(t0, steps)
            assert len(sequence) == steps + 1
            assert sequence[0] == t0
            assert sequence[-1] == 0
            assert all(a > b for a, b in pairwise(sequence))


@pytest.mark.parametrize("steps", [0, 6])
def test_impossible_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the start timestep 5"):
        timestep_sequence(5, steps)


def _state() -> tuple[Tensor, Tensor, Tensor]:
    shape = (1, 3, 4, 4)
    # Small enough that diffusers' clipping, which both sides apply, matters for some pixels only.
    return tuple(0.7 * sample_noise(3, key, shape=shape) for key in ("x", "eps", "z"))  # type: ignore[return-value]


def _clipped_x_0(x_t: Tensor, eps: Tensor, t: int) -> Tensor:
    return predict_x_0(x_t, t=torch.tensor([t]), output=eps, schedule=SCHEDULE).clamp(-1, 1)


@pytest.mark.parametrize(("num_steps", "t", "s"), [(500, 200, 199), (500, 1, 0), (50, 201, 191)])
def test_ancestral_step_agrees_with_diffusers(num_steps: int, t: int, s: int) -> None:
    x_t, eps, _ = _state()
    reference = DDPMScheduler(
        num_train_timesteps=500, beta_start=1e-4, beta_end=2e-2, variance_type="fixed_small"
    )
    reference.set_timesteps(num_steps)
    expected = reference.step(eps, t - 1, x_t, generator=torch.Generator().manual_seed(9))
    z = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(9))
    actual = reverse_step(
        x_t, x_0=_clipped_x_0(x_t, eps, t), z=z, t=[t], s=[s], eta=[1.0], schedule=SCHEDULE
    )
    torch.testing.assert_close(actual, expected.prev_sample, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_step_agrees_with_diffusers(eta: float) -> None:
    x_t, eps, z = _state()
    t, s = 201, 191
    reference = DDIMScheduler(num_train_timesteps=500, beta_start=1e-4, beta_end=2e-2)
    reference.set_timesteps(50)
    expected = reference.step(
        eps, t - 1, x_t, eta=eta, use_clipped_model_output=True, variance_noise=z if eta else None
    )
    actual = reverse_step(
        x_t, x_0=_clipped_x_0(x_t, eps, t), z=z, t=[t], s=[s], eta=[eta], schedule=SCHEDULE
    )
    torch.testing.assert_close(actual, expected.prev_sample, atol=2e-5, rtol=1e-4)


def _sample(model_calls: list[Sequence[int]] | None = None, **options: object) -> Tensor:
    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        if model_calls is not None:
            model_calls.append(t.tolist())
        return torch.tanh(x_t) * 0.9

    arguments: dict[str, object] = {
        "shape": (3, 8, 8),
        "schedule": SCHEDULE,
        "seeds": [1, 2],
        "sampler": "ddpm",
        "steps": 5,
    }
    return sample(denoiser, **{**arguments, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_an_image_follows_from_its_seed(sampler: str) -> None:
    pair = _sample(sampler=sampler)
    torch.manual_seed(123)
    assert torch.equal(pair, _sample(sampler=sampler))
    assert torch.equal(pair[1:], _sample(sampler=sampler, seeds=[2]))
    assert not torch.equal(pair[0], pair[1])
    assert pair.abs().max() <= 1.0


def test_the_model_sees_one_based_descending_timesteps() -> None:
    calls: list[Sequence[int]] = []
    _sample(calls)
    assert calls == [[500, 500], [400, 400], [300, 300], [200, 200], [100, 100]]


def test_every_step_is_reported() -> None:
    reports: list[StepReport] = []
    result = _sample(on_step=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    assert [report.t for report in reports] == [(t, t) for t in (500, 400, 300, 200, 100)]
    assert torch.equal(reports[-1].x_0, result)


def test_returning_false_cancels() -> None:
    calls: list[Sequence[int]] = []
    with pytest.raises(SamplingCanceledError, match="after 2 steps"):
        _sample(calls, on_step=lambda report: report.step < 2)
    assert len(calls) == 2
