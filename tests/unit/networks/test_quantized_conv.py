"""Convolutions of 8-bit integers against those of float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.quantized_conv import QuantizedConv

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="CPU without bfloat16"
)


def make_conv(*, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(24, 40, 3, stride=stride, padding=padding).requires_grad_(False)


def maps(channels: int = 24, *, offset: float = 0.0) -> Tensor:
    x = torch.randn(1, channels, 7, 9, generator=torch.Generator().manual_seed(1))
    return F.silu(x + offset).bfloat16()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    assert actual.dtype == torch.bfloat16
    assert actual.shape == expected.shape
    return ((actual.float() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("offset", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_stays_close_to_float32_at_the_borders_too(
    offset: float, stride: int, padding: int
) -> None:
    conv, x = make_conv(stride=stride, padding=padding), maps(offset=offset)
    expected = conv(x.float())
    actual = QuantizedConv(conv)(x)
    assert relative_error(actual, expected) < 0.01
    assert relative_error(actual[..., :1, :], expected[..., :1, :]) < 0.015


def test_is_exact_where_values_are_integers() -> None:
    conv = make_conv()
    conv.weight.copy_(torch.randint(-127, 128, conv.weight.shape).float())
    conv.weight[:, 0, 0, 0] = 127.0  # So the scale of each output channel is 1,
    x = torch.randint(-20, 21, (1, 24, 7, 9)).bfloat16()
    x[0, 0, 0, :2] = torch.tensor([-100.0, 150.0])  # and that of x too: it spans 250.
    expected = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    actual = QuantizedConv(conv)(x)
    torch.testing.assert_close(actual.double(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("low", [-0.279296875, -4.0, 0.0, 1.0])  # The first is the least of SiLU.
def test_no_value_is_rounded_out_of_8_bits(low: float) -> None:
    """Such a value wraps around. A kernel that copies its channel shows what became of each."""
    conv = nn.Conv2d(1, 1, 1).requires_grad_(False)
    conv.weight.fill_(1.0)
    conv.bias.zero_()
    quantized = QuantizedConv(conv)
    for high in torch.arange(1.5, 33.5, 0.125).tolist():
        x = torch.linspace(low, high, 64).bfloat16().view(1, 1, 8, 8)
        step = (high - min(low, 0.0)) / 250
        torch.testing.assert_close(quantized(x), x, atol=1.02 * step, rtol=2**-7)


def test_takes_another_bias() -> None:
    conv, x = make_conv(), maps()
    bias = torch.linspace(-1, 1, 40)
    expected = F.conv2d(x.float(), conv.weight, bias, padding=1)
    assert relative_error(QuantizedConv(conv)(x, bias=bias), expected) < 0.01


@pytest.mark.parametrize("in_place", [True, False])
def test_adds_its_result_to_another_map(in_place: bool) -> None:
    conv, x, other = make_conv(), maps(), maps(40).contiguous(memory_format=torch.channels_last)
    before = other.clone()
    actual = QuantizedConv(conv).add_to(other, x, in_place=in_place)
    assert relative_error(actual, conv(x.float()) + before.float()) < 0.01
    assert torch.equal(other, actual if in_place else before)


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_constant_maps_and_weights_of_zero(value: float) -> None:
    conv = make_conv()
    conv.weight[:20] = 0.0
    x = torch.full((1, 24, 7, 9), value, dtype=torch.bfloat16)
    actual = QuantizedConv(conv)(x)
    torch.testing.assert_close(actual.float(), conv(x.float()), rtol=0.01, atol=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_maps_that_are_not_finite_are_refused(value: float) -> None:
    x = maps()
    x[0, 3, 2, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        QuantizedConv(make_conv())(x)
