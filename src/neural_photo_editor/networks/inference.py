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
)
from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.packed_layers import (
    PackedConv,
    PackedLinear,
    PackedShortcut,
    PackedUpsample,
    packed_bias,
)
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
        first = PackedConv(prepared.conv_in, dtype=torch.float32, result=map_dtype)
        last = PackedConv(prepared.conv_out, dtype=torch.float32)
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


class _PackedResidualBlock(nn.Module):
    """ResidualBlock of one image, whose timestep is part of the first convolution's bias."""

    def __init__(self, block: ResidualBlock, *, dtype: torch.dtype, integers: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        pack = QuantizedConv if integers else partial(PackedConv, dtype=dtype)
        self.conv1, self.conv2 = pack(block.conv1), pack(block.conv2)
        self.time = block.time
        bias = packed_bias(block.time, torch.float32) + packed_bias(block.conv1, torch.float32)
        self.time.bias = nn.Parameter(bias, requires_grad=False)
        self.shortcut = (
            PackedShortcut(block.shortcut, dtype=dtype)
            if isinstance(block.shortcut, nn.Conv2d)
            else None
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        bias = self.time(embedding).flatten()
        hidden = self.norm2(self.conv1(self.norm1(x), bias=bias))
        if self.shortcut is None:
            return self.conv2.add_to(x, hidden, in_place=False)
        return self.conv2.add_to(self.shortcut(x), hidden, in_place=True)


def _replacements(
    dtype: torch.dtype, *, integers: bool
) -> dict[type[nn.Module], Callable[..., nn.Module]]:
    return {
        nn.Conv2d: partial(PackedConv, dtype=dtype),
        nn.Linear: partial(PackedLinear, dtype=dtype),
        Upsample: partial(PackedUpsample, dtype=dtype),
        ResidualBlock: partial(_PackedResidualBlock, dtype=dtype, integers=integers),
    }
