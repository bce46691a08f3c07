"""An upscaler made ready to serve on a CPU, as `networks.inference` does with the denoiser."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.packed_layers import PackedConv
from neural_photo_editor.networks.quantized_conv import QuantizedConv
from neural_photo_editor.networks.srresnet import ShuffleConv, SRResNet

_STRIP_PIXELS = 2**14
"""Pixels that the last stage computes at once: its map of 4 times the channels stays in a cache."""


class PreparedUpscaler(nn.Module):
    """Computes on the CPU what an SRResNet computes in evaluation mode, one image at a time.

    It holds its own copy of the weights and has no parameters and no state_dict.

    Args:
        network: on any device, in any mode.
        dtype: of the convolutions, float32 or bfloat16. int8 is bfloat16, except that those between
            the first and the last convolve 8-bit integers (`QuantizedConv`). The bicubic
            enlargement and the result are float32 in any case.
    """

    def __init__(self, network: SRResNet, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = network.config
        self.scale = network.scale
        self.dtype = dtype
        map_dtype = torch.float32 if dtype == torch.float32 else torch.bfloat16

        def pack(conv: Any, activation: Any = None) -> _Layer:
            slope = None if activation is None else activation.weight.item()
            if dtype == torch.int8:
                return _QuantizedLayer(conv, slope)
            return PackedConv(conv, dtype=map_dtype, negative_slope=slope)

        stem, activation = cast(Any, network.stem)
        self.stem = PackedConv(stem, dtype=map_dtype, negative_slope=activation.weight.item())
        # In tuples, so that they are no submodules, which `to` would move.
        self.blocks = tuple(
            (pack(block.conv1, block.activation), pack(block.conv2))
            for block in cast(Any, network.blocks)
        )
        self.trunk = (pack(network.trunk),)
        stages = list(network.upsample)
        self.stages = tuple(map(pack, stages[::3], stages[2::3]))
        self.head = PackedConv(_before_shuffle(network.head), dtype=map_dtype)
        self.eval()

    @torch.no_grad()
    def forward(self, low: Tensor) -> Tensor:
        """As `SRResNet.forward`: low float, (N, 3, H, W). Returns float32."""
        return torch.cat([self._upscale(low[i : i + 1].float()) for i in range(len(low))])

    def _upscale(self, low: Tensor) -> Tensor:
        shallow = hidden = self.stem(low)
        for index, (conv1, conv2) in enumerate(self.blocks):
            hidden = conv2.add_to(hidden, conv1(hidden), in_place=index > 0)
        (trunk,) = self.trunk
        hidden = trunk.add_to(shallow, hidden, in_place=len(self.blocks) > 0)
        for stage in self.stages[:-1]:
            hidden = F.pixel_shuffle(stage(hidden), 2)
        bicubic = F.interpolate(low, scale_factor=float(self.scale), mode="bicubic")
        return bicubic.add_(F.pixel_shuffle(self._last_stage(hidden), 2))

    def _last_stage(self, maps: Tensor) -> Tensor:
        """The last stage and the head, strip by strip: (1, C, H, W) to (1, 12, H, W)."""
        height, width = maps.shape[2:]
        rows = max(1, _STRIP_PIXELS // width)
        # Rows that the strip's inner borders make wrong.
        margin = 1 + self.head.geometry[0][0]
        strips = []
        for top in range(0, height, rows):
            first, last = max(top - margin, 0), min(top + rows, height)
            result = self.head(self.stages[-1](maps[:, :, first : last + margin]))
            strips.append(result[:, :, top - first : last - first])
        return torch.cat(strips, dim=2)


class _QuantizedLayer(QuantizedConv):
    def __init__(self, conv: nn.Conv2d, negative_slope: float | None) -> None:
        super().__init__(conv)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor, *, bias: Tensor | None = None) -> Tensor:
        out = super().forward(x, bias=bias)
        return out if self.negative_slope is None else F.leaky_relu_(out, self.negative_slope)


_Layer = PackedConv | _QuantizedLayer


def _before_shuffle(head: nn.Module) -> nn.Conv2d:
    """The convolution in a ShuffleConv."""
    assert isinstance(head, ShuffleConv)
    kernel, bias = head.kernel_before_shuffle()
    outputs, inputs, side, _ = kernel.shape
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2).requires_grad_(False)
    conv.weight.copy_(kernel)
    cast(Tensor, conv.bias).copy_(bias)
    return conv
