"""What an item of a batch takes from the others: nothing, to the byte, also when some give up."""

import pytest
import torch
from torch import Tensor, nn

from neural_photo_editor.diffusion.edit_plan import EditPlan
from neural_photo_editor.diffusion.masked_editing import OnStep, StepReport, masked_edit
from neural_photo_editor.diffusion.objective import Denoiser
from neural_photo_editor.diffusion.schedule import NoiseSchedule
from neural_photo_editor.networks.denoising_unet import DenoisingUNet

SCHEDULE = NoiseSchedule.linear()
PLANS = [
    EditPlan(t0=200, steps=6, sampler="ddpm", seed=0),
    EditPlan(t0=350, steps=5, sampler="ddim", seed=1),
    EditPlan(t0=1, steps=1, sampler="ddpm", seed=2),
    EditPlan(t0=500, steps=7, sampler="ddim", seed=3, eta=1.0, color_fidelity=0.5),
    EditPlan(t0=120, steps=4, sampler="dpmpp_2m", seed=4),
    EditPlan(t0=475, steps=3, sampler="ddim", seed=5, eta=0.3),
    EditPlan(t0=475, steps=8, sampler="dpmpp_2m", seed=-6),
    EditPlan(t0=200, steps=4, sampler="dpmpp_2m", seed=7, resamples=2, jump_length=1),
]


@pytest.fixture(scope="module")
def network() -> DenoisingUNet:
    torch.manual_seed(0)
    network = DenoisingUNet(
        widths=(32, 64), blocks_per_level=1, attention_levels=(1,), head_dim=32, num_groups=8
    )
    # Some layers start at zero; a network that ignores its weights would prove nothing.
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def _edit(
    denoiser: Denoiser, items: list[int], *, mapped: bool = False, on_step: OnStep | None = None
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand((8, 3, 16, 16), generator=generator) * 2 - 1
    mask = (torch.rand((8, 1, 16, 16), generator=generator) * 2 - 0.5).clamp(0, 1)
    u_0 = torch.where(mask > 0, torch.rand((8, 3, 1, 1), generator=generator) * 2 - 1, x_0)
    start = torch.randint(0, 501, (8, 1, 16, 16), generator=generator)
    return masked_edit(
        denoiser,
        u_0[items],
        x_0=x_0[items],
        mask=mask[items],
        plans=[PLANS[i] for i in items],
        schedule=SCHEDULE,
        start=start[items] if mapped else None,
        on_step=on_step,
    )


@pytest.mark.parametrize("mapped", [False, True])
def test_an_item_has_the_same_bytes_alone_and_in_a_mixed_batch(
    network: DenoisingUNet, mapped: bool
) -> None:
    together = _edit(network, list(range(8)), mapped=mapped)
    for i in range(8):
        assert torch.equal(_edit(network, [i], mapped=mapped)[0], together[i]), PLANS[i]
    assert torch.equal(_edit(network, [5, 2], mapped=mapped)[0], together[5])


def test_items_leave_when_they_are_done(network: DenoisingUNet) -> None:
    reports: list[StepReport] = []
    _edit(network, [2, 3, 1], on_step=reports.append)
    assert [report.items for report in reports] == [(0, 1, 2)] + [(1, 2)] * 4 + [(1,)] * 2
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6, 7]
    assert [len(report.x_0) for report in reports] == [3, 2, 2, 2, 2, 1, 1]
    assert reports[1].t == (429, 280)


def test_giving_items_up_changes_no_other(network: DenoisingUNet) -> None:
    together = _edit(network, list(range(8)))
    calls: list[int] = []

    def give_up(report: StepReport) -> list[int]:
        calls.extend(report.items)
        return {1: [4], 3: [0, 6, 2]}.get(report.step, [])

    result = _edit(network, list(range(8)), on_step=give_up)
    for i in (1, 2, 3, 5, 7):
        assert torch.equal(result[i], together[i]), PLANS[i]
    assert [calls.count(i) for i in range(8)] == [3, 5, 1, 7, 1, 3, 3, 7]


def test_an_item_given_up_holds_the_state_it_reached() -> None:
    seen: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t.clone())
        return 0.5 * x_t

    _edit(denoiser, [0])
    result = _edit(denoiser, [0], on_step=lambda report: [0] if report.step == 2 else None)
    assert torch.equal(result, seen[2])


def test_the_loop_ends_when_nobody_is_left() -> None:
    calls: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(int(t))
        return 0.5 * x_t

    _edit(denoiser, [0, 6], on_step=lambda report: report.items if report.step == 2 else None)
    assert len(calls) == 4


def test_exceptions_of_the_callback_pass_through(network: DenoisingUNet) -> None:
    def stop(_: StepReport) -> None:
        raise TimeoutError("deadline")

    with pytest.raises(TimeoutError, match="deadline"):
        _edit(network, [0], on_step=stop)
