"""The networks of benchmarks/training_step.py, and the settings that they are trained with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d import UNet2DModel
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[1]
NUM_REGIONS = 11


@dataclass(frozen=True)
class Setting:
    """How a network is trained.

    Attributes:
        bfloat16: autocast; otherwise float32.
        channels_last: memory format of weights and images.
        fused: AdamW's one kernel for all tensors; otherwise what torch chooses.
        compiled: by torch.compile.
        options: arguments of the network's constructor that change no FLOP.
    """

    bfloat16: bool = False
    channels_last: bool = False
    fused: bool = False
    compiled: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = ["bfloat16" if self.bfloat16 else "float32"]
        words += [name for name in ("channels_last", "fused", "compiled") if getattr(self, name)]
        words += [f"{name}={value}" for name, value in self.options]
        return ", ".join(words)


@dataclass(frozen=True)
class Contender:
    """A network.

    Attributes:
        name: of the library.
        build: makes the network from a setting's options.
        options: the values of each option that are tried for the best setting.
        default: as the library's own example, or our configuration, trains it.
        call: what the network is given: the network, then the inputs.
    """

    name: str
    build: Callable[..., nn.Module]
    default: Setting = Setting()
    options: tuple[tuple[tuple[str, Any], ...], ...] = ((),)
    call: Callable[..., Tensor] = field(default=lambda network, *inputs: network(*inputs))

    def candidates(self, *, native_bfloat16: bool, compiled: bool) -> list[Setting]:
        """The settings of which the fastest is the best one."""
        return [
            Setting(native_bfloat16, channels_last, fused=True, compiled=compiled, options=options)
            for channels_last in (False, True)
            for options in self.options
        ]


@dataclass(frozen=True)
class Task:
    """What is trained, by ours first and its peers after it.

    Attributes:
        side: of the images that go in, in pixels.
        batch_size: images in a step.
        inputs: the images and whatever else goes in, from batch size and side.
        target: from batch size and side.
        loss: of what the network puts out and the target.
    """

    side: int
    batch_size: int
    inputs: Callable[[int, int], tuple[Tensor, ...]]
    target: Callable[[int, int], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    contenders: tuple[Contender, ...]


def _ours(config: str) -> nn.Module:
    network: nn.Module = instantiate(
        OmegaConf.load(REPOSITORY / "conf" / "network" / f"{config}.yaml")
    )
    return network


def _diffusers(attention_head_dim: int = 8) -> nn.Module:
    """The layout of `denoising_unet_128`, less the attention in the middle.

    With it, it takes 5.1 % more FLOPs: its upsampling multiplies where ours does not.
    """
    config: Any = OmegaConf.load(REPOSITORY / "conf" / "network" / "denoising_unet_128.yaml")
    kinds = ["Attn" if i in config.attention_levels else "" for i in range(len(config.widths))]
    network: nn.Module = UNet2DModel(
        block_out_channels=tuple(config.widths),
        layers_per_block=config.blocks_per_level,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        attention_head_dim=attention_head_dim,
        add_attention=False,
    )
    return network


def _lucidrains(flash_attn: bool = False) -> nn.Module:
    """Its default layout, as wide as makes it as dear as ours."""
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    network: nn.Module = Unet(92, dim_mults=(1, 2, 4, 8), flash_attn=flash_attn)
    return network


def _smp() -> nn.Module:
    """Its U-Net with the encoder that is most like ours: plain convolutions."""
    import segmentation_models_pytorch as smp

    network: nn.Module = smp.Unet(
        "tu-vgg19_bn",
        encoder_weights=None,
        classes=NUM_REGIONS,
        decoder_channels=(512, 256, 128, 64, 32),
    )
    return network


def _edsr() -> nn.Module:
    """EDSR of our width, with as many blocks as make it as dear."""
    from super_image import EdsrConfig, EdsrModel

    network: nn.Module = EdsrModel(EdsrConfig(scale=4, n_feats=64, n_resblocks=20))
    return network


def _images(batch_size: int, side: int) -> tuple[Tensor, ...]:
    return (torch.rand(batch_size, 3, side, side) * 2 - 1,)


def _noisy_images(batch_size: int, side: int) -> tuple[Tensor, ...]:
    return (*_images(batch_size, side), torch.randint(1, 501, (batch_size,)))


def _labels(batch_size: int, side: int) -> Tensor:
    return torch.randint(0, NUM_REGIONS, (batch_size, side, side))


def _noise(batch_size: int, side: int) -> Tensor:
    return torch.randn(batch_size, 3, side, side)


def _four_times_larger(batch_size: int, side: int) -> Tensor:
    (images,) = _images(batch_size, 4 * side)
    return images


# Our defaults are those of conf/trainer, conf/optimizer and conf/module where bfloat16 is native.
_DENOISER_DEFAULT = Setting(bfloat16=True, fused=True)
_DEFAULT = Setting(bfloat16=True, channels_last=True, fused=True)

TASKS = {
    "denoiser": Task(
        side=128,
        batch_size=4,
        inputs=_noisy_images,
        target=_noise,
        loss=F.mse_loss,
        contenders=(
            Contender("ours", lambda: _ours("denoising_unet_128"), _DENOISER_DEFAULT),
            Contender(
                "diffusers",
                _diffusers,
                options=((("attention_head_dim", 8),), (("attention_head_dim", 64),)),
                call=lambda network, *inputs: network(*inputs).sample,
            ),
            Contender(
                "lucidrains",
                _lucidrains,
                options=((("flash_attn", False),), (("flash_attn", True),)),
            ),
        ),
    ),
    "segmenter": Task(
        side=128,
        batch_size=8,
        inputs=_images,
        target=_labels,
        loss=F.cross_entropy,
        contenders=(
            Contender("ours", lambda: _ours("segmentation_unet_128"), _DEFAULT),
            Contender("segmentation_models.pytorch", _smp),
        ),
    ),
    "upscaler": Task(
        side=32,
        batch_size=16,
        inputs=_images,
        target=_four_times_larger,
        loss=F.l1_loss,
        contenders=(
            Contender("ours", lambda: _ours("srresnet_x4"), _DEFAULT),
            Contender("super-image, EDSR", _edsr),
        ),
    ),
}
