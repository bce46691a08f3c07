"""What only the upscaler, the segmenter and the discriminator promise."""

import pytest
import torch
import torch.nn.functional as F

from neural_photo_editor.networks.discriminator import Discriminator
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import ShuffleConv, SRResNet, _PReLU


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_upscaler_starts_as_bicubic(scale: int) -> None:
    low = torch.rand(1, 3, 7, 9) * 2 - 1
    expected = F.interpolate(low, scale_factor=scale, mode="bicubic")
    actual = SRResNet(scale=scale, width=8, num_blocks=1)(low)
    torch.testing.assert_close(actual, expected)


def test_upscaler_has_the_papers_size() -> None:
    # Ledig et al. 2017, Figure 4: k9n64, 16 x 2 k3n64, k3n64, 2 x k3n256, k9n3.
    convolutions = [
        tuple(layer.weight.shape)
        for layer in SRResNet().modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    assert convolutions == [
        (64, 3, 9, 9),
        *[(64, 64, 3, 3)] * 33,
        *[(256, 64, 3, 3)] * 2,
        (3, 64, 9, 9),
    ]


def test_prelu_equals_torchs() -> None:
    ours, theirs = _PReLU(init=0.3), torch.nn.PReLU(init=0.3)
    x = torch.randn(2, 3, 4, 5)
    for values in zip(*(_value_and_gradients(m, x) for m in (ours, theirs)), strict=True):
        torch.testing.assert_close(*values)


def _value_and_gradients(module: torch.nn.PReLU, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, module.weight])]


@pytest.mark.parametrize("side", [1, 3, 5, 7, 9])
def test_a_convolution_after_shuffling_equals_the_two(side: int) -> None:
    torch.manual_seed(0)
    conv = ShuffleConv(4, 3, side, padding=side // 2).double()
    x = torch.randn(2, 16, 5, 6).double().requires_grad_()
    inputs = [x, conv.weight, conv.bias]
    expected = F.conv2d(F.pixel_shuffle(x, 2), conv.weight, conv.bias, padding=side // 2)
    dy = torch.randn_like(expected)
    wanted = [expected, *torch.autograd.grad(expected, inputs, dy)]
    actual = conv(x)
    for ours, theirs in zip(
        [actual, *torch.autograd.grad(actual, inputs, dy)], wanted, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_segmenter_pads_by_itself() -> None:
    torch.manual_seed(0)
    network = SegmentationUNet(widths=(8, 16), stem_factor=2).eval()
    image = torch.rand(1, 3, 14, 13) * 2 - 1
    padded = F.pad(image, (0, 3, 0, 2), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :14, :13])


@pytest.mark.parametrize("side", [128, 512])
def test_discriminator_judges_crops_and_portraits(side: int) -> None:
    network = Discriminator(widths=(4, 4, 4, 4), dense_width=4).eval()
    assert network(torch.zeros(1, 3, side, side)).shape == (1, 1, side // 16, side // 16)


def test_wrong_configurations_name_their_remedy() -> None:
    with pytest.raises(ValueError, match="2, 4 or 8"):
        SRResNet(scale=3)
    with pytest.raises(ValueError, match="odd"):
        SRResNet(outer_kernel=4)
    with pytest.raises(ValueError, match="at least one level"):
        SegmentationUNet(widths=())
    with pytest.raises(ValueError, match="widths is empty"):
        Discriminator(widths=())
