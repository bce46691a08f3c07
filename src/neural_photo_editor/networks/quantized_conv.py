"""A convolution that multiplies 8-bit integers, for CPUs that do this faster than bfloat16."""

import math

import torch
from torch import Tensor, nn

_NO_DIVISION_BY_ZERO = 1e-12


class QuantizedConv(nn.Module):
    """nn.Conv2d of one image, computed with x = scale * (u - zero), u unsigned 8-bit integers.

    (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", Eq. 1.) Weights have a scale per output channel and no zero.
    Scale and zero of x are those of the image at hand, so there is nothing to calibrate, and no
    value is cut off. Sums are exact; the result is bfloat16.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None  # Every convolution that is quantized has one.
        assert isinstance(conv.padding, tuple)
        self.bias: Tensor = conv.bias.detach().float()
        weight = conv.weight.detach().float()
        self.scales = weight.abs().amax((1, 2, 3)).clamp_min(_NO_DIVISION_BY_ZERO) / 127
        integers = (weight / self.scales[:, None, None, None]).round().to(torch.int8)
        # What a constant of 1 in every channel and pixel adds to each output channel.
        self.response_to_ones = integers.sum((1, 2, 3)) * self.scales
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        self.padding = conv.padding
        # Stride, padding (see `_quantize`), dilation, groups.
        self.geometry = ([*conv.stride], [0, 0], [*conv.dilation], conv.groups)
        self.weight: Tensor = torch.ops.onednn.qconv_prepack(
            integers, self.scales, 1.0, 0, *self.geometry, None
        )

    def forward(self, x: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """x: bfloat16, (1, C, H, W); bias: float, (C_out,), instead of the layer's own.

        Raises:
            ValueError: x is not finite.
        """
        run = torch.ops.onednn.qconv2d_pointwise
        out: Tensor = run(*self._operands(x, bias), torch.bfloat16, "none", [], None)
        return out

    def add_to(self, other: Tensor, x: Tensor, *, in_place: bool) -> Tensor:
        """Return conv(x) + other, written over `other` where that is allowed (and faster)."""
        if not in_place:
            return self.forward(x).add_(other)
        image, scale, zero, weight, scales, zeros, bias, *rest = self._operands(x, None)
        operands = (image, scale, zero, weight, scales, zeros, other, bias, *rest)
        run = torch.ops.onednn.qconv2d_pointwise.binary
        out: Tensor = run(*operands, torch.bfloat16, 1.0, 0, "sum", 1.0, "none", [], None)
        return out

    def _operands(self, x: Tensor, bias: Tensor | None) -> tuple[object, ...]:
        """What both operations of oneDNN start with, up to the scale and zero of the result."""
        image, scale, zero = _quantize(x, self.padding)
        # oneDNN computes with scale * u: the constant scale * zero in it is taken off here.
        bias = torch.sub(
            self.bias if bias is None else bias, self.response_to_ones, alpha=scale * zero
        )
        return (image, scale, 0, self.weight, self.scales, self.zeros, bias, *self.geometry, 1.0, 0)


def _quantize(x: Tensor, padding: tuple[int, ...]) -> tuple[Tensor, float, int]:
    """Return u (uint8, channels_last, padded by what stands for 0), scale and zero.

    oneDNN could pad and take off the zero as well, but takes up to three times as long on maps
    with few pixels.
    """
    # (N, C, H, W) -> (N, H, W, C), which is the order in memory.
    pixels = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    low, high = (value.item() for value in torch.aminmax(pixels))
    low, high = min(low, 0.0), max(high, 0.0)
    if not math.isfinite(high - low):
        raise ValueError("a map inside the network is not finite: check its weights and the input")
    # torch rounds the factor and its product to bfloat16: here for the former, and so that nothing
    # is rounded out of 0..255, which would wrap around, some integers at both ends stay unused.
    steps = torch.tensor(250 / max(high - low, _NO_DIVISION_BY_ZERO)).bfloat16().item()
    zero = round(-low * steps) + 2
    # Signed first: torch converts to int8 several times as fast as to uint8. XOR adds the 128.
    num_images, height, width, channels = pixels.shape
    top, left = padding
    shape = (num_images, height + 2 * top, width + 2 * left, channels)
    signed = torch.full(shape, zero - 128, dtype=torch.int8)
    signed[:, top : top + height, left : left + width] = torch.rsub(
        pixels, zero - 128, alpha=-steps
    ).round_()
    return signed.view(torch.uint8).bitwise_xor_(128).permute(0, 3, 1, 2), 1 / steps, zero
