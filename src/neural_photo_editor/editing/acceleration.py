"""How a network computes while it serves: number format, memory layout, compilation."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.inference import native_dtype, prepare_for_inference
from neural_photo_editor.networks.prepared_segmenter import PreparedSegmenter, fold_batch_norms
from neural_photo_editor.networks.prepared_upscaler import PreparedUpscaler
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
from neural_photo_editor.networks.srresnet import SRResNet

Precision = Literal["auto", "float32", "bfloat16"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


@dataclass(frozen=True)
class Acceleration:
    """What to do about speed.

    Attributes:
        precision: of the denoiser and the upscaler; "auto" is bfloat16 where the device computes
            with it natively, and 8-bit integers on CPUs that are faster with them. Labels always
            come from float32, of which a GPU drops no bits: see `accelerate`.
        channels_last: on a GPU, keep the weights as (out, H, W, in), which its matrix units read
            fastest; a CPU's layout is chosen by oneDNN.
        compile: on a GPU, torch.compile's mode; None runs the networks as they are. The first
            edits of each batch size take minutes.
    """

    precision: Precision = "auto"
    channels_last: bool = True
    compile: CompileMode | None = None


def accelerate(
    network: nn.Module, *, device: torch.device, acceleration: Acceleration
) -> nn.Module:
    """Return what computes the same as a network, or nearly, in less time on this device.

    On a GPU it ends the process's use of TF32 in convolutions, which torch allows by default.

    Args:
        network: one of the three, in evaluation mode.
        device: where it will run.

    Raises:
        ValueError: the device has no bfloat16, and it was asked for.
    """
    if device.type == "cpu":
        return _for_cpu(network, acceleration.precision)
    # TF32 has 10 bits after the point; it shows in labels at borders. bfloat16 is not touched.
    torch.backends.cudnn.allow_tf32 = False
    makes_labels = isinstance(network, SegmentationUNet)
    if isinstance(network, SegmentationUNet):
        network = fold_batch_norms(network)
    network = network.to(device)
    if acceleration.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if acceleration.compile is not None:
        network = cast(nn.Module, torch.compile(network, mode=acceleration.compile))
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    if acceleration.precision == "bfloat16" and not native:
        raise ValueError("this GPU has no bfloat16: choose float32 or auto")
    if makes_labels or acceleration.precision == "float32" or not native:
        return network
    return InBfloat16(network, device.type)


class InBfloat16(nn.Module):
    """A network whose convolutions and products are computed in bfloat16; its result is float32."""

    def __init__(self, network: nn.Module, device_type: str) -> None:
        super().__init__()
        self.network = network
        self._device_type = device_type

    def forward(self, *arguments: Tensor) -> Tensor:
        with torch.autocast(self._device_type, dtype=torch.bfloat16):
            result = self.network(*arguments)
        return cast(Tensor, result).float()


def _for_cpu(network: nn.Module, precision: Precision) -> nn.Module:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return network
    if isinstance(network, SegmentationUNet):
        return PreparedSegmenter(network).network  # Its feature maps are wanted, too.
    dtype = native_dtype() if precision == "auto" else getattr(torch, precision)
    if isinstance(network, SRResNet):
        return PreparedUpscaler(network, dtype=dtype)
    return (
        prepare_for_inference(network, dtype=dtype)
        if isinstance(network, DenoisingUNet)
        else network
    )
