"""A prepared upscaler and a prepared segmenter against the networks that they come from."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from neural_photo_editor.networks import prepared_upscaler
from neural_photo_editor.networks.prepared_segmenter import PreparedSegmenter, fold_batch_norms
from neural_photo_editor.networks.prepared_upscaler import PreparedUpscaler
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

needs_bfloat16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="CPU without bfloat16"
)


def upscaler(**changes: int) -> SRResNet:
    torch.manual_seed(0)
    network = SRResNet(**({"width": 16, "num_blocks": 3} | changes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network.eval()


def segmenter(**changes: object) -> SegmentationUNet:
    """With statistics and shifts away from their initial values."""
    torch.manual_seed(0)
    network = SegmentationUNet(**({"widths": (8, 16, 24)} | changes))  # type: ignore[arg-type]
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight, 1.0, 0.3)
            nn.init.normal_(norm.bias)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


def images(num_images: int = 3, height: int = 11, width: int = 14) -> Tensor:
    return (
        torch.rand(num_images, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("outer_kernel", "num_blocks"), [(9, 2), (3, 1), (5, 0)])
def test_float32_upscaler_equals_the_network(
    scale: int, outer_kernel: int, num_blocks: int
) -> None:
    network = upscaler(scale=scale, outer_kernel=outer_kernel, num_blocks=num_blocks)
    actual = PreparedUpscaler(network, dtype=torch.float32)(images())
    torch.testing.assert_close(actual, network(images()), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("outer_kernel", [3, 9])
def test_strips_leave_no_seam(outer_kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = upscaler(outer_kernel=outer_kernel)
    prepared = PreparedUpscaler(network, dtype=torch.float32)
    monkeypatch.setattr(prepared_upscaler, "_STRIP_PIXELS", 5 * 28)  # 5 rows of the last stage
    torch.testing.assert_close(prepared(images()), network(images()), atol=1e-5, rtol=1e-4)


@needs_bfloat16
@torch.no_grad()
@pytest.mark.parametrize(("dtype", "decibels"), [(torch.bfloat16, 50.0), (torch.int8, 42.0)])
def test_fewer_bits_change_little(dtype: torch.dtype, decibels: float) -> None:
    network = upscaler(width=32)
    expected, actual = network(images(1)), PreparedUpscaler(network, dtype=dtype)(images(1))
    assert actual.dtype == torch.float32
    error = (actual - expected).square().mean().item()
    assert 10 * math.log10(expected.square().mean().item() / error) > decibels
    assert error > 0


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"blocks_per_level": 1, "stem_factor": 2}])
def test_folded_and_prepared_segmenters_equal_the_network(changes: dict[str, object]) -> None:
    network = segmenter(**changes)
    expected = network(images())
    for fast in (fold_batch_norms(network), PreparedSegmenter(network)):
        torch.testing.assert_close(fast(images()), expected, atol=1e-5, rtol=1e-4)
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())


@pytest.mark.parametrize(
    ("network", "prepare"),
    [
        (upscaler(), lambda network: PreparedUpscaler(network, dtype=torch.float32)),
        (segmenter(), PreparedSegmenter),
        pytest.param(
            upscaler(),
            lambda network: PreparedUpscaler(network, dtype=torch.int8),
            marks=needs_bfloat16,
        ),
    ],
    ids=["upscaler", "segmenter", "upscaler int8"],
)
def test_copies_its_weights_and_treats_each_image_alone(network: nn.Module, prepare: type) -> None:
    before = copy.deepcopy(network.state_dict())
    network.train()
    prepared = prepare(network).to("cpu").eval()
    together = prepared(images())
    assert torch.equal(together, torch.cat([prepared(image[None]) for image in images()]))
    assert torch.equal(together, prepared(images().to(memory_format=torch.channels_last)))
    assert list(prepared.parameters()) == []
    assert not together.requires_grad
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
