"""Masked editing: what is outside the mask, what each item does, and what it takes from others."""

from typing import Any

import pytest
import torch
from torch import Tensor

from neural_photo_editor.diffusion.edit_plan import EditPlan, SamplerName, plan_steps
from neural_photo_editor.diffusion.masked_editing import StepReport, masked_edit
from neural_photo_editor.diffusion.noise import sample_noise
from neural_photo_editor.diffusion.process import add_noise
from neural_photo_editor.diffusion.sampler_steps import SAMPLER_STEPS
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from tests.unit.diffusion.gaussian_data import GaussianData

SCHEDULE = NoiseSchedule.linear()
DATA = GaussianData(SCHEDULE, mean=-0.1, std=0.3)
PLANS = [
    EditPlan(t0=200, steps=200, sampler="ddpm", seed=0),
    EditPlan(t0=350, steps=50, sampler="ddim", seed=1),
    EditPlan(t0=1, steps=1, sampler="ddpm", seed=2),
    EditPlan(t0=500, steps=7, sampler="ddim", seed=3, eta=1.0),
    EditPlan(t0=120, steps=33, sampler="ddpm", seed=4),
    EditPlan(t0=475, steps=20, sampler="ddim", seed=5, eta=0.3),
    EditPlan(t0=67, steps=12, sampler="dpmpp_2m", seed=-6),
    EditPlan(t0=200, steps=20, sampler="dpmpp_2m", seed=7, resamples=3, jump_length=2),
]


def elementwise_model(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser whose result for one item cannot depend on the others."""
    return torch.tanh(x_t) * (t.reshape(-1, 1, 1, 1) / 500.0 + 0.1)


def _batch(n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand((n, 3, 16, 16), generator=generator) * 2 - 1
    mask = torch.rand((n, 1, 16, 16), generator=generator) > 0.6
    paint = torch.rand((n, 3, 1, 1), generator=generator) * 2 - 1
    return torch.where(mask, paint, x_0), x_0, mask


def _edit(items: list[int], **options: Any) -> Tensor:
    u_0, x_0, mask = _batch()
    return masked_edit(
        elementwise_model,
        u_0[items],
        x_0=x_0[items],
        mask=mask[items],
        plans=[PLANS[i] for i in items],
        schedule=SCHEDULE,
        **options,
    )


def test_outside_the_mask_equals_the_photo_exactly() -> None:
    _, x_0, mask = _batch()
    result = _edit(list(range(8)))
    outside = ~mask.expand_as(x_0)
    assert torch.equal(result[outside], x_0[outside])
    assert not torch.equal(result[~outside], x_0[~outside])
    assert result.abs().max() <= 1.0


def test_surroundings_are_the_last_estimate_of_the_items_that_ask_for_them() -> None:
    reports: list[StepReport] = []
    asked = [number % 2 == 0 for number in range(8)]
    result = _edit(list(range(8)), surroundings=asked, on_step=reports.append)
    plain, outside = _edit(list(range(8))), ~_batch()[2].expand(-1, 3, -1, -1)
    last = {i: report.x_0[row] for report in reports for row, i in enumerate(report.items)}
    for i, around in enumerate(asked):
        assert torch.equal(result[i][~outside[i]], plain[i][~outside[i]])
        expected = last[i] if around else plain[i]
        assert torch.equal(result[i][outside[i]], expected[outside[i]])
    with pytest.raises(ValueError, match="give as many"):
        _edit([0], surroundings=[True, False])


def test_the_known_region_is_put_back_after_every_step() -> None:
    u_0, x_0, mask = _batch(1)
    plan = EditPlan(t0=60, steps=4, sampler="ddpm", seed=11)
    seen: list[tuple[int, Tensor]] = []

    def spy(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((int(t), x_t.clone()))
        return elementwise_model(x_t, t)

    masked_edit(spy, u_0, x_0=x_0, mask=mask, plans=[plan], schedule=SCHEDULE)
    assert [t for t, _ in seen] == [60, 45, 30, 15]
    outside = ~mask.expand_as(x_0)
    for t, x_t in seen[1:]:
        eps = sample_noise(11, "known", t, shape=(3, 16, 16)).unsqueeze(0)
        known = add_noise(x_0, t=torch.tensor([t]), eps=eps, schedule=SCHEDULE)
        assert torch.equal(x_t[outside], known[outside])


def test_the_start_is_the_painted_photo_noised_to_t0() -> None:
    u_0, x_0, mask = _batch(1)
    seen: list[Tensor] = []

    def spy(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t.clone())
        return elementwise_model(x_t, t)

    plan = EditPlan(t0=60, steps=1, seed=11)
    masked_edit(spy, u_0, x_0=x_0, mask=mask, plans=[plan], schedule=SCHEDULE)
    eps = sample_noise(11, "start", 60, shape=(3, 16, 16)).unsqueeze(0)
    expected = add_noise(u_0, t=torch.tensor([60]), eps=eps, schedule=SCHEDULE)
    assert torch.equal(seen[0], expected)


def test_color_fidelity_takes_the_low_frequencies_out_of_the_start_noise() -> None:
    u_0 = torch.full((1, 3, 64, 64), 0.3)
    seen: list[Tensor] = []

    def spy(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t.clone())
        return elementwise_model(x_t, t)

    mask = torch.ones((1, 1, 64, 64), dtype=torch.bool)
    for fidelity in (0.0, 0.5, 1.0):
        plan = EditPlan(t0=200, steps=1, seed=11, color_fidelity=fidelity)
        masked_edit(spy, u_0, x_0=u_0, mask=mask, plans=[plan], schedule=SCHEDULE)
    scale, noise = SCHEDULE.alpha_bar[200].sqrt(), (1 - SCHEDULE.alpha_bar[200]).sqrt()
    white, half, spared = (((x_t - scale * u_0) / noise).float() for x_t in seen)

    # Means over blocks of 8 pixels: white noise has a deviation of 1/8 of its own.
    def block_means(eps: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(eps, 8)

    assert float(block_means(white).std()) == pytest.approx(1 / 8, rel=0.15)
    assert float(block_means(spared).std()) < 0.5 / 8
    torch.testing.assert_close(half, (white + spared) / 2, atol=1e-5, rtol=0)
    # In frequency space: exp(-2 pi^2 sigma^2 f^2) of each frequency is gone, sigma = 2 pixels.
    frequency = torch.fft.fftfreq(64)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    kept = 1 - torch.exp(-2 * torch.pi**2 * 2.0**2 * squared)
    ratio = torch.fft.fft2(spared).abs().square().mean((0, 1)) / torch.fft.fft2(
        white
    ).abs().square().mean((0, 1))
    fine = squared > 0.2**2
    assert float((ratio[fine] - kept[fine] ** 2).abs().mean()) < 0.05
    coarse = (squared < 0.03**2) & (squared > 0)
    assert float(ratio[coarse].mean()) < 0.15


def test_gaussian_data_is_reproduced_inside_the_mask() -> None:
    """With a constant photo of value 0.2 kept outside, the inside still becomes N(-0.1, 0.3^2)."""
    x_0 = torch.full((1, 3, 128, 128), 0.2)
    mask = torch.zeros((1, 1, 128, 128), dtype=torch.bool)
    mask[..., :96] = True
    u_0 = DATA.mean + DATA.std * sample_noise(1, "data", shape=x_0.shape)
    plan = EditPlan(t0=500, steps=500, seed=3)
    result = masked_edit(
        DATA, u_0, x_0=x_0, mask=mask, plans=[plan], schedule=SCHEDULE, clip_x_0=False
    )
    inside = result[mask.expand_as(x_0)]
    assert float(inside.mean()) == pytest.approx(DATA.mean, abs=0.01)
    assert float(inside.std()) == pytest.approx(DATA.std, rel=0.03)
    assert torch.equal(result[..., 96:], x_0[..., 96:])


def test_resampling_walks_each_stretch_again() -> None:
    """RePaint, Algorithm 1 and figure 9, written out for 6 timesteps, j = 2 and r = 2."""
    steps = plan_steps(EditPlan(t0=6, steps=6, resamples=2, jump_length=2), SCHEDULE)
    first = [(6, 5), (5, 4), (6, 5), (5, 4)]
    second = [(4, 3), (3, 2), (4, 3), (3, 2)]
    assert [(step.t, step.s) for step in steps] == [*first, *second, (2, 1), (1, 0)]
    assert [step.visit for step in steps] == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    # Going up ends what a multistep sampler remembers.
    assert [step.t_before for step in steps] == [None, 6, None, 6, 5, 4, None, 4, 3, 2]


def test_repeated_steps_get_other_noise() -> None:
    steps = plan_steps(EditPlan(t0=50, steps=5, resamples=4), SCHEDULE)
    assert len(steps) == 5 + 4 * 3
    keys = [step.keys("reverse") for step in steps]
    assert len(set(keys)) == len(keys)
    assert [step.visit for step in steps if step.t == 50] == [0, 1, 2, 3]
    assert [step.visit for step in steps if step.t == 10] == [0]


@pytest.mark.parametrize("sampler", SAMPLER_STEPS)
def test_resampling_keeps_gaussian_data_as_it_is(sampler: SamplerName) -> None:
    """Going up and down again leaves the marginal where it is."""
    x_0 = torch.full((1, 3, 96, 96), 0.2)
    mask = torch.ones((1, 1, 96, 96), dtype=torch.bool)
    u_0 = DATA.mean + DATA.std * sample_noise(1, "data", shape=x_0.shape)
    plan = EditPlan(t0=400, steps=400, seed=3, sampler=sampler, resamples=2, jump_length=5)
    result = masked_edit(
        DATA, u_0, x_0=x_0, mask=mask, plans=[plan], schedule=SCHEDULE, clip_x_0=False
    )
    assert float(result.mean()) == pytest.approx(DATA.mean, abs=0.01)
    assert float(result.std()) == pytest.approx(DATA.std, rel=0.03)


def test_resampling_makes_an_edit_fit_what_is_kept() -> None:
    """Two columns that are always equal in the data: one kept, one drawn (RePaint, section 4.2).

    The plain process draws the second column from what it saw of the first one's noise; every
    repetition shows it the first one again. Data: x_1 = x_2 ~ N(0, 1); the oracle is exact.
    """

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar_t = SCHEDULE.alpha_bar[t].to(x_t).reshape(-1, 1, 1, 1)
        # E[x_0 | both columns] = sqrt(alpha_bar) (x_1 + x_2) / (1 + alpha_bar).
        x_0 = alpha_bar_t.sqrt() * x_t.sum(dim=-1, keepdim=True) / (1 + alpha_bar_t)
        return (x_t - alpha_bar_t.sqrt() * x_0) / (1 - alpha_bar_t).sqrt()

    x_0 = sample_noise(5, "data", shape=(1, 3, 512, 1)).expand(-1, -1, -1, 2).contiguous()
    mask = torch.zeros((1, 1, 512, 2), dtype=torch.bool)
    mask[..., 1] = True

    def misfit(resamples: int) -> float:
        plan = EditPlan(t0=500, steps=50, seed=3, resamples=resamples)
        result = masked_edit(
            oracle, x_0, x_0=x_0, mask=mask, plans=[plan], schedule=SCHEDULE, clip_x_0=False
        )
        return float((result[..., 1] - result[..., 0]).square().mean().sqrt())

    plain, repeated = misfit(1), misfit(10)
    assert repeated < 0.7 * plain


def test_bad_arguments_are_refused() -> None:
    u_0, x_0, mask = _batch(1)
    plan = EditPlan(t0=10, steps=2)

    def edit(**changes: Any) -> None:
        arguments = {"x_0": x_0, "mask": mask, "plans": [plan], "schedule": SCHEDULE, **changes}
        masked_edit(elementwise_model, u_0, **arguments)

    with pytest.raises(ValueError, match="expected bool or float"):
        edit(mask=mask.int())
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        edit(mask=mask * 255.0)
    with pytest.raises(ValueError, match="expected int64"):
        edit(start=mask.float())
    with pytest.raises(ValueError, match="negative"):
        edit(start=mask.long() - 1)
    with pytest.raises(ValueError, match="one per item"):
        edit(plans=[plan, plan])
    with pytest.raises(ValueError, match="differ"):
        edit(x_0=x_0[..., :8])
    with pytest.raises(ValueError, match="from 1 to 500"):
        edit(plans=[EditPlan(t0=501, steps=2)])


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"steps": 11},
        {"sampler": "euler"},
        {"eta": 1.5},
        {"color_fidelity": -0.1},
        {"resamples": 0},
    ],
)
def test_bad_plans_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="choose"):
        EditPlan(**{"t0": 10, "steps": 2, **options})
