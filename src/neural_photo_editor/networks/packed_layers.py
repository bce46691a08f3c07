"""Layers that cannot learn and are fast on a CPU: their weights lie as oneDNN computes with them.

What follows a convolution (bias, activation, another map to add to) is computed while its result
is still in registers.
"""

import torch
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import Upsample, upsampling_kernel


class PackedConv(nn.Module):
    """nn.Conv2d; optionally with another bias, an activation, or added to another map.

    Args:
        conv: the layer to compute.
        dtype: to compute with.
        result: dtype of the result, `dtype` if left out.
        negative_slope: of an activation after it: 0 is ReLU, None is none.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        *,
        dtype: torch.dtype,
        result: torch.dtype | None = None,
        negative_slope: float | None = None,
    ) -> None:
        super().__init__()
        assert isinstance(conv.padding, tuple)
        self.dtype = dtype
        self.result = result or dtype
        self.bias = packed_bias(conv, dtype)
        self.geometry = ([*conv.padding], [*conv.stride], [*conv.dilation], conv.groups)
        self.weight: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.detach().to(dtype), *self.geometry
        )
        self.activation = (
            ("none", [], None) if negative_slope is None else ("leaky_relu", [negative_slope], "")
        )

    def forward(self, x: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """x: float, (N, C, H, W); bias: (C_out,), instead of the layer's own."""
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        bias = self.bias if bias is None else bias.to(self.dtype)
        run = torch.ops.mkldnn._convolution_pointwise
        out: Tensor = run(x, self.weight, bias, *self.geometry, *self.activation)
        return out.to(self.result)

    def add_to(self, other: Tensor, x: Tensor, *, in_place: bool) -> Tensor:
        """Return conv(x) + other, written over `other` where that is allowed (and faster)."""
        rest: tuple[object, ...] = (
            self.weight,
            self.bias,
            *self.geometry,
            "add",
            None,
            None,
            [],
            None,
        )
        out: Tensor
        if in_place:
            out = torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *rest)
        else:
            out = torch.ops.mkldnn._convolution_pointwise.binary(x, other, *rest)
        return out


class PackedLinear(nn.Module):
    """nn.Linear, or a 1x1 convolution of maps that are (N, H, W, C)."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.bias = packed_bias(layer, dtype)
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(
            layer.weight.flatten(1).to(dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        run = torch.ops.mkldnn._linear_pointwise
        out: Tensor = run(x, self.weight, self.bias, "none", [], None)
        return out


class PackedShortcut(PackedLinear):
    """nn.Conv2d of 1x1: packed as a convolution it is up to a hundred times slower in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back; in memory, channels_last maps are the latter.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PackedUpsample(nn.Module):
    """Upsample."""

    def __init__(self, upsample: Upsample, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.bias = packed_bias(upsample.conv, dtype)
        # Padding, output padding, stride, dilation, groups.
        self.geometry = ([1, 1], [0, 0], [2, 2], [1, 1], 1)
        self.kernel: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight(
            upsampling_kernel(upsample.conv.weight).to(dtype), *self.geometry
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        run = torch.ops.mkldnn._convolution_transpose_pointwise
        out: Tensor = run(x, self.kernel, self.bias, *self.geometry, "none", [], None)
        return out


def packed_bias(layer: nn.Conv2d | nn.Linear, dtype: torch.dtype) -> Tensor:
    """Return a layer's bias; every layer that is packed has one."""
    assert layer.bias is not None
    return layer.bias.detach().to(dtype)
