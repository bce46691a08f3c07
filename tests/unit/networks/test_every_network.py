"""What every network promises, whatever it computes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.discriminator import Discriminator
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]  # without the batch
    output_shape: tuple[int, ...]

    def network(self) -> nn.Module:
        """Weights away from their initial values: some start at zero and hide what is before."""
        torch.manual_seed(0)
        network = self.build()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        return network

    def inputs(self, num_images: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(num_images, *self.input_shape, generator=generator) * 2 - 1
        if self.build in DENOISERS:
            return x, torch.arange(1, num_images + 1) * 100
        return (x,)


def denoiser() -> nn.Module:
    return DenoisingUNet(
        widths=(32, 64), blocks_per_level=1, attention_levels=(1,), head_dim=32, num_groups=8
    )


def denoiser_with_stem() -> nn.Module:
    return DenoisingUNet(
        widths=(32, 32, 64), blocks_per_level=2, attention_levels=(), stem_factor=2, dropout=0.1
    )


def segmenter() -> nn.Module:
    return SegmentationUNet(widths=(8, 16, 32), blocks_per_level=2)


def segmenter_with_stem() -> nn.Module:
    return SegmentationUNet(widths=(16, 32), blocks_per_level=1, stem_factor=2)


def upscaler() -> nn.Module:
    return SRResNet(width=16, num_blocks=2)


def upscaler_x2() -> nn.Module:
    return SRResNet(scale=2, width=16, num_blocks=1, outer_kernel=3)


def discriminator() -> nn.Module:
    return Discriminator(widths=(8, 16, 16), dense_width=16)


DENOISERS = (denoiser, denoiser_with_stem)
CASES = {
    "denoiser": Case(denoiser, (3, 16, 24), (3, 16, 24)),
    "denoiser_with_stem": Case(denoiser_with_stem, (3, 32, 16), (3, 32, 16)),
    "segmenter": Case(segmenter, (3, 21, 18), (11, 21, 18)),
    "segmenter_with_stem": Case(segmenter_with_stem, (3, 16, 19), (11, 16, 19)),
    "upscaler": Case(upscaler, (3, 12, 9), (3, 48, 36)),
    "upscaler_x2": Case(upscaler_x2, (3, 9, 12), (3, 18, 24)),
    "discriminator": Case(discriminator, (3, 24, 32), (1, 3, 4)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_shape_and_dtype(case: Case) -> None:
    out = case.network().eval()(*case.inputs(2))
    assert out.shape == (2, *case.output_shape)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()


def test_configuration_survives_json_and_rebuilds_the_network(case: Case) -> None:
    network = case.network().eval()
    rebuilt = type(network)(**json.loads(json.dumps(network.config))).eval()
    assert rebuilt.config == network.config
    rebuilt.load_state_dict(network.state_dict())
    torch.testing.assert_close(rebuilt(*case.inputs(2)), network(*case.inputs(2)))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_reach_all_parameters(case: Case, memory_format: torch.memory_format) -> None:
    network = case.network().to(memory_format=memory_format)
    network(*case.inputs(2)).square().mean().backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []


def test_memory_format_does_not_change_the_result(case: Case) -> None:
    network, inputs = case.network().eval(), case.inputs(2)
    expected = network(*inputs)
    actual = network.to(memory_format=torch.channels_last)(*inputs)
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=1e-4)


def test_bfloat16_autocast_trains_and_stays_close(case: Case) -> None:
    network = case.network().to(memory_format=torch.channels_last)
    inputs = case.inputs(2)
    with torch.autocast("cpu", torch.bfloat16):
        network(*inputs).float().square().mean().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all()
        for p in network.parameters()
    )
    network.eval()
    with torch.no_grad():
        expected = network(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            actual = network(*inputs).float()
    assert (actual - expected).norm() < 0.1 * expected.norm()


def test_an_image_does_not_depend_on_its_batch(case: Case) -> None:
    network = case.network().eval()
    inputs = case.inputs(3)
    with torch.no_grad():
        together = network(*inputs)
        alone = torch.cat([network(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_weights_survive_a_file(case: Case, tmp_path: Path) -> None:
    network = case.network().eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    other = case.build().eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(*case.inputs(1)), network(*case.inputs(1)))


def test_learns_one_batch(case: Case) -> None:
    torch.manual_seed(0)
    network, inputs = case.build(), case.inputs(2)
    target = torch.full((2, *case.output_shape), 0.5)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = nn.functional.mse_loss(network(*inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
