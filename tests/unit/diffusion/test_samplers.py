"""One suite for every sampler: closed-form Gaussian data, then determinism, then reports."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName, Step, plan_steps
from neural_photo_editor.diffusion.reverse_process import StepReport
from neural_photo_editor.diffusion.sampler_steps import SAMPLER_STEPS, take_steps
from neural_photo_editor.diffusion.samplers import sample
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.diffusion.gaussian_data import GaussianData

SCHEDULE = NoiseSchedule.linear()
SAMPLERS: tuple[SamplerName, ...] = tuple(SAMPLER_STEPS)


@pytest.mark.parametrize(
    ("sampler", "steps", "eta"),
    [
        ("ddpm", 500, 0.0),
        ("ddpm", 250, 0.0),
        ("ddim", 500, 0.0),
        ("ddim", 500, 0.5),
        ("ddim", 500, 1.0),
        ("ddim", 100, 0.0),
        ("dpmpp_2m", 500, 0.0),
        ("dpmpp_2m", 50, 0.0),
        ("dpmpp_2m", 20, 0.0),
    ],
)
def test_gaussian_data_is_reproduced(sampler: SamplerName, steps: int, eta: float) -> None:
    data = GaussianData(SCHEDULE)
    result = sample(
        data,
        shape=(3, 96, 96),
        schedule=SCHEDULE,
        seeds=[1],
        sampler=sampler,
        steps=steps,
        eta=eta,
        mean_x_0=torch.tensor(data.mean),
        clip_x_0=False,
    )
    assert float(result.mean()) == pytest.approx(data.mean, abs=0.01)
    assert float(result.std()) == pytest.approx(data.std, rel=0.03)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_order_of_convergence(sampler: SamplerName, order: int) -> None:
    """The error against the exact probability-flow ODE falls with steps^-order, in float64."""
    # The schedule of 500 timesteps in 100,000: whole numbers of timesteps do not show.
    schedule = NoiseSchedule.linear(100_000, 1e-4 / 200, 2e-2 / 200)
    data = GaussianData(schedule)
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 1, 9)
    exact = data.flow(start, t=100_000, s=0)

    def error(steps: int) -> float:
        x, before = start, torch.zeros_like(start)
        for step in plan_steps(EditPlan(t0=100_000, steps=steps, sampler=sampler), schedule):
            x_0 = data.x_0(x, step.t)
            weights = [SAMPLER_STEPS[sampler](step, 0.0, schedule)]
            x = take_steps(x, x_0=x_0, x_0_before=before, z=torch.zeros_like(x), weights=weights)
            before = x_0
        return float((x - exact).abs().max())

    errors = torch.tensor([error(steps) for steps in (40, 80, 160, 320)]).log2()
    assert (errors[:-1] - errors[1:]).tolist() == pytest.approx([order] * 3, abs=0.15)


def test_respaced_ddpm_is_nichol_and_dhariwals() -> None:
    """Improved DDPM, Eq. 19 and DDPM's Eq. 7 on the betas of the visited timesteps alone."""
    steps = plan_steps(EditPlan(t0=437, steps=23, sampler="ddpm"), SCHEDULE)[::-1]
    alpha_bar = SCHEDULE.alpha_bar[[step.t for step in steps]]
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    betas = 1 - alpha_bar / before
    torch.testing.assert_close(torch.cumprod(1 - betas, 0), alpha_bar)
    expected = torch.stack(
        [
            before.sqrt() * betas / (1 - alpha_bar),
            torch.zeros_like(betas),
            (1 - betas).sqrt() * (1 - before) / (1 - alpha_bar),
            ((1 - before) / (1 - alpha_bar) * betas).sqrt(),
        ],
        dim=1,
    )
    weights = [SAMPLER_STEPS["ddpm"](step, 0.0, SCHEDULE) for step in steps]
    torch.testing.assert_close(
        torch.tensor(weights, dtype=torch.float64), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("t_before", [None, 240])
def test_every_sampler_ends_at_the_estimate(sampler: SamplerName, t_before: int | None) -> None:
    weights = SAMPLER_STEPS[sampler](Step(200, 0, t_before=t_before), 1.0, SCHEDULE)
    assert weights == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("t_before", [None, 240])
def test_every_sampler_keeps_the_marginal(sampler: SamplerName, t_before: int | None) -> None:
    """From sqrt(alpha_bar_t) x_0 + noise to sqrt(alpha_bar_s) x_0 + noise of the right variance."""
    weights = SAMPLER_STEPS[sampler](Step(200, 150, t_before=t_before), 0.4, SCHEDULE)
    alpha_bar_t, alpha_bar_s = (float(SCHEDULE.alpha_bar[t]) for t in (200, 150))
    mean = weights.x_0 + weights.x_0_before + weights.x_t * alpha_bar_t**0.5
    assert mean == pytest.approx(alpha_bar_s**0.5, abs=1e-12)
    variance = weights.x_t**2 * (1 - alpha_bar_t) + weights.z**2
    assert variance == pytest.approx(1 - alpha_bar_s, abs=1e-12)


def _sample(model_calls: list[Sequence[int]] | None = None, **options: object) -> Tensor:
    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        if model_calls is not None:
            model_calls.append(t.tolist())
        return torch.tanh(x_t) * 0.9

    arguments: dict[str, Any] = {
        "shape": (3, 8, 8),
        "schedule": SCHEDULE,
        "seeds": [1, 2],
        "sampler": "ddpm",
        "steps": 5,
    }
    return sample(denoiser, **{**arguments, **options})


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_follows_from_its_seed(sampler: SamplerName) -> None:
    pair = _sample(sampler=sampler)
    torch.manual_seed(123)
    assert torch.equal(pair, _sample(sampler=sampler))
    assert torch.equal(pair[1:], _sample(sampler=sampler, seeds=[2]))
    assert not torch.equal(pair[0], pair[1])
    assert pair.abs().max() <= 1.0


def test_the_model_sees_one_based_descending_timesteps() -> None:
    calls: list[Sequence[int]] = []
    _sample(calls, seeds=[1])
    assert calls == [[500], [400], [300], [200], [100]]


def test_on_a_cpu_the_model_sees_one_item_at_a_time() -> None:
    calls: list[Sequence[int]] = []
    _sample(calls, steps=1)
    assert calls == [[500], [500]]


def test_every_step_is_reported() -> None:
    reports: list[StepReport] = []
    result = _sample(on_step=reports.append)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5]
    assert [report.t for report in reports] == [(t, t) for t in (500, 400, 300, 200, 100)]
    assert torch.equal(reports[-1].x_0, result)


def test_giving_all_images_up_ends_the_calls() -> None:
    calls: list[Sequence[int]] = []
    _sample(calls, on_step=lambda report: {0, 1} if report.step == 2 else None)
    assert len(calls) == 2 * 2
