"""A denoiser made ready to serve on a CPU.

The network stays the same; its layers are replaced by ones that cannot learn and are faster:

* oneDNN finds every weight in the layout that it computes with, instead of reordering it per call;
* what follows a convolution (bias, timestep, residual connection) is added while its result is
  still in registers;
* the kernels of `Upsample` are computed once;
* where the CPU multiplies bfloat16 natively, convolutions and attention use it;
* where it multiplies 8-bit integers faster still, the convolutions of wide networks use them.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import (
    ResidualBlock,
    TimestepEmbedding,
    Upsample,
    upsampling_kernel,
)
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.quantized_conv import QuantizedConv

_DTYPES = (torch.float32, torch.bfloat16, torch.int8)
_WIDE = 128  # From so many channels on, 8-bit products save more time than rounding to them takes.


def native_dtype() -> torch.dtype:
    """The fastest `dtype` for `prepare_for_inference` that this CPU has instructions for.

    bfloat16 with AMX, int8 with AVX-512 for bfloat16 and for integers (VNNI), else float32. AMX
    multiplies bfloat16 so fast that little would be left to save.
    """
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("amx_bf16"):
        return torch.bfloat16
    if not capabilities.get("avx512_bf16"):
        return torch.float32
    return torch.int8 if capabilities.get("avx512_vnni") else torch.bfloat16


def prepare_for_inference(
    network: DenoisingUNet, *, dtype: torch.dtype = torch.float32
) -> "PreparedDenoiser":
    """Return a module that computes on the CPU what `network` computes in evaluation mode.

    It holds its own copy of the weights: later changes to `network`, which stays as it is, do not
    reach it. It has no parameters and no state_dict, so no device and no optimizer can move it.

    Args:
        network: on any device, in any mode.
        dtype: of convolutions and attention, float32 or bfloat16. int8 is bfloat16, except that the
            residual blocks of a network with 128 channels or more at every level convolve 8-bit
            integers (`QuantizedConv`). `native_dtype()` is the fastest. The first and the last
            convolution, the statistics of normalizations, the timestep and the result are float32
            in any case.

    Raises:
        ValueError: another dtype, one that this CPU does not have, or a torch without oneDNN.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype} does not fit: choose one of {_DTYPES}")
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise ValueError("this torch was built without oneDNN: serve the network itself")
    if dtype != torch.float32 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ValueError("this CPU has no AVX-512 for bfloat16: choose torch.float32")
    return PreparedDenoiser(network, dtype=dtype)


class PreparedDenoiser(nn.Module):
    """See `prepare_for_inference`.

    The images of a batch are computed one after the other. So an image's result is the same to the
    bit in every batch, and a core has work enough with one.
    """

    def __init__(self, network: DenoisingUNet, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = network.config
        self.image_multiple = network.image_multiple
        self.dtype = dtype
        prepared = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
        map_dtype = torch.float32 if dtype == torch.float32 else torch.bfloat16
        first = _PackedConv(prepared.conv_in, dtype=torch.float32, result=map_dtype)
        last = _PackedConv(prepared.conv_out, dtype=torch.float32)
        prepared.add_module("conv_in", first)
        prepared.add_module("conv_out", last)
        integers = dtype == torch.int8 and min(network.config["widths"]) >= _WIDE
        _replace_layers(prepared, _replacements(map_dtype, integers=integers))
        self._network = (prepared,)  # In a tuple, so that it is no submodule.
        self.eval()

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """As `DenoisingUNet.forward`: x float, (N, C, H, W), t int64, (N,). Returns float32."""
        (network,) = self._network
        return torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(len(x))])


def _replace_layers(
    module: nn.Module, replacements: dict[type[nn.Module], Callable[..., nn.Module]]
) -> None:
    for name, child in module.named_children():
        if type(child) in replacements:
            setattr(module, name, replacements[type(child)](child))
        elif not isinstance(child, TimestepEmbedding):
            _replace_layers(child, replacements)


class _PackedConv(nn.Module):
    """nn.Conv2d; optionally with another bias, and added to another map."""

    def __init__(
        self, conv: nn.Conv2d, *, dtype: torch.dtype, result: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.result = result or dtype
        self.bias = _bias(conv, dtype)
        self.geometry = ([*conv.padding], [*conv.stride], [*conv.dilation], conv.groups)
        self.weight: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            conv.weight.to(dtype), *self.geometry
        )

    def forward(self, x: Tensor, *, bias: Tensor | None = None) -> Tensor:
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        bias = self.bias if bias is None else bias.to(self.dtype)
        run = torch.ops.mkldnn._convolution_pointwise
        out: Tensor = run(x, self.weight, bias, *self.geometry, "none", [], None)
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


class _PackedLinear(nn.Module):
    """nn.Linear, or a 1x1 convolution of maps that are (N, H, W, C)."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.bias = _bias(layer, dtype)
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(
            layer.weight.flatten(1).to(dtype)
        )

    def forward(self, x: Tensor) -> Tensor:
        run = torch.ops.mkldnn._linear_pointwise
        out: Tensor = run(x, self.weight, self.bias, "none", [], None)
        return out


class _PackedShortcut(_PackedLinear):
    """nn.Conv2d of 1x1: packed as a convolution it is up to a hundred times slower in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back; in memory, channels_last maps are the latter.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _PackedUpsample(nn.Module):
    """Upsample."""

    def __init__(self, upsample: Upsample, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.bias = _bias(upsample.conv, dtype)
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


class _PackedResidualBlock(nn.Module):
    """ResidualBlock of one image, whose timestep is part of the first convolution's bias."""

    def __init__(self, block: ResidualBlock, *, dtype: torch.dtype, integers: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        pack = QuantizedConv if integers else partial(_PackedConv, dtype=dtype)
        self.conv1, self.conv2 = pack(block.conv1), pack(block.conv2)
        self.time = block.time
        bias = _bias(block.time, torch.float32) + _bias(block.conv1, torch.float32)
        self.time.bias = nn.Parameter(bias, requires_grad=False)
        self.shortcut = (
            _PackedShortcut(block.shortcut, dtype=dtype)
            if isinstance(block.shortcut, nn.Conv2d)
            else None
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        bias = self.time(embedding).flatten()
        hidden = self.norm2(self.conv1(self.norm1(x), bias=bias))
        if self.shortcut is None:
            return self.conv2.add_to(x, hidden, in_place=False)
        return self.conv2.add_to(self.shortcut(x), hidden, in_place=True)


def _bias(layer: nn.Conv2d | nn.Linear, dtype: torch.dtype) -> Tensor:
    assert layer.bias is not None  # Every layer of DenoisingUNet has one.
    return layer.bias.to(dtype)


def _replacements(
    dtype: torch.dtype, *, integers: bool
) -> dict[type[nn.Module], Callable[..., nn.Module]]:
    return {
        nn.Conv2d: partial(_PackedConv, dtype=dtype),
        nn.Linear: partial(_PackedLinear, dtype=dtype),
        Upsample: partial(_PackedUpsample, dtype=dtype),
        ResidualBlock: partial(_PackedResidualBlock, dtype=dtype, integers=integers),
    }
