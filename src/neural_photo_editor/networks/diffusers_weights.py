"""Weights of diffusers' UNet2DModel in a DenoisingUNet, so that published models fit, and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neural_photo_editor.networks.denoising_unet import DenoisingUNet

# What UNet2DModel can vary and DenoisingUNet cannot, with the only value that fits.
_REQUIRED = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attn_norm_num_groups": None,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
}

# UNet2DModel's name, ours and UNet2DModel's default of what both can vary alike.
_SHARED = (
    ("in_channels", "in_channels", 3),
    ("layers_per_block", "blocks_per_level", 2),
    ("attention_head_dim", "head_dim", 8),
    ("norm_num_groups", "num_groups", 32),
    ("dropout", "dropout", 0.0),
    ("norm_eps", "norm_eps", 1e-5),
    ("flip_sin_to_cos", "flip_sin_to_cos", True),
    ("freq_shift", "freq_shift", 0),
    ("downsample_padding", "downsample_padding", 1),
)
_WITHOUT_COUNTERPART = {"stem_factor": 1}
"""What DenoisingUNet can vary and UNet2DModel cannot, with the only value that fits."""

_BLOCKS = {"Down": ("DownBlock2D", "AttnDownBlock2D"), "Up": ("UpBlock2D", "AttnUpBlock2D")}
"""Types of blocks going down and up, without and with attention."""

_OTHERS = {
    "block_out_channels",
    "down_block_types",
    "num_train_timesteps",  # of a learned embedding of the timestep, which does not fit
    "out_channels",
    "sample_size",
    "time_embedding_dim",
    "up_block_types",
}


def load_unet2d(
    state_dict: Mapping[str, Tensor], *, unet2d_config: Mapping[str, Any]
) -> DenoisingUNet:
    """Build a DenoisingUNet that computes what a UNet2DModel computes.

    `load_unet2d(...)(x, t)` equals `UNet2DModel(...)(x, t - 1).sample` for t in 1..T.

    Args:
        state_dict: the model's, e.g. from `safetensors.torch.load_file`.
        unet2d_config: its config.json.

    Raises:
        ValueError: the configuration uses a feature that DenoisingUNet does not have, or the
            weights do not belong to the configuration.
    """
    network = DenoisingUNet(**denoising_unet_config(unet2d_config))
    source = {_modern_name(name): weight for name, weight in state_dict.items()}
    try:
        converted = {
            # Attention was a 1x1 convolution in some early files.
            name: torch.cat([source.pop(part) for part in _parts(name)]).reshape(weight.shape)
            for name, weight in network.state_dict().items()
        }
        network.load_state_dict(converted)
        if source:
            raise KeyError(f"unused: {', '.join(sorted(source))}")
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"the weights do not belong to this UNet2DModel configuration: {error}"
        ) from error
    return network


def unet2d_weights(network: DenoisingUNet) -> dict[str, Tensor]:
    """Return the state dict of the UNet2DModel of :func:`unet2d_config`, on the CPU.

    The inverse of :func:`load_unet2d`, bit for bit.
    """
    weights: dict[str, Tensor] = {}
    for name, weight in network.state_dict().items():
        parts = _parts(name)
        # Copies: files of weights hold no views of one another.
        pieces = [piece.cpu().clone() for piece in weight.chunk(len(parts))]
        weights |= zip(parts, pieces, strict=True)
    return weights


def denoising_unet_config(unet2d_config: Mapping[str, Any]) -> dict[str, Any]:
    """Translate UNet2DModel's configuration into DenoisingUNet's constructor arguments.

    Raises:
        ValueError: as `load_unet2d`, naming the feature.
    """
    config = unet2d_config
    for name, value in _REQUIRED.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"UNet2DModel with {name} = {config[name]!r} does not fit: only {value!r} does"
            )
    names = {name for name in config if not name.startswith("_")}
    unknown = sorted(names - _REQUIRED.keys() - _OTHERS - {theirs for theirs, _, _ in _SHARED})
    if unknown:
        raise ValueError(
            f"UNet2DModel with {', '.join(unknown)}, which this program does not know: remove what "
            "does not change the output"
        )
    for name in ("block_out_channels", "down_block_types", "up_block_types"):
        if name not in config:
            raise ValueError(f"UNet2DModel's configuration lacks {name}: save it again")
    widths = list(config["block_out_channels"])
    if config.get("time_embedding_dim") not in (None, 4 * widths[0]):
        raise ValueError("UNet2DModel with its own time_embedding_dim does not fit")
    if config.get("in_channels", 3) != config.get("out_channels", 3):
        raise ValueError("UNet2DModel with in_channels != out_channels does not fit")
    return {
        "widths": widths,
        "attention_levels": _attention_levels(config),
        **_WITHOUT_COUNTERPART,
        **{ours: config.get(theirs, default) for theirs, ours, default in _SHARED},
    }


def unet2d_config(config: Mapping[str, Any], *, sample_size: int) -> dict[str, Any]:
    """Translate `DenoisingUNet.config` into UNet2DModel's configuration.

    The inverse of :func:`denoising_unet_config`.

    Args:
        config: all constructor arguments of the DenoisingUNet.
        sample_size: side of the images in pixels.

    Raises:
        ValueError: the network uses a feature that UNet2DModel does not have.
    """
    for name, value in _WITHOUT_COUNTERPART.items():
        if config[name] != value:
            raise ValueError(
                f"DenoisingUNet with {name} = {config[name]!r} cannot be a UNet2DModel: only "
                f"{value!r} can; train one with network.{name}={value}"
            )
    levels = range(len(config["widths"]))
    attends = [level in config["attention_levels"] for level in levels]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": sample_size,
        "out_channels": config["in_channels"],
        "block_out_channels": list(config["widths"]),
        "down_block_types": [_BLOCKS["Down"][attend] for attend in attends],
        "up_block_types": [_BLOCKS["Up"][attend] for attend in reversed(attends)],
        **{theirs: config[ours] for theirs, ours, _ in _SHARED},
        **_REQUIRED,
    }


def _attention_levels(config: Mapping[str, Any]) -> list[int]:
    sides = {}
    for side, types in (
        ("Down", config["down_block_types"]),
        ("Up", config["up_block_types"][::-1]),
    ):
        for block_type in types:
            if block_type not in _BLOCKS[side]:
                raise ValueError(f"UNet2DModel with block type {block_type} does not fit")
        sides[side] = [level for level, name in enumerate(types) if name == _BLOCKS[side][True]]
    if sides["Down"] != sides["Up"]:
        raise ValueError("UNet2DModel with attention at different levels going down and up")
    return sides["Down"]


def _modern_name(name: str) -> str:
    """Attention layers had other names before diffusers 0.15."""
    for old, new in (
        ("query", "to_q"),
        ("key", "to_k"),
        ("value", "to_v"),
        ("proj_attn", "to_out.0"),
    ):
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _parts(name: str) -> list[str]:
    """UNet2DModel's names of a weight of DenoisingUNet, of whose parts it is the concatenation."""
    prefix, _, kind = name.rpartition(".")  # kind: weight or bias
    prefix = _source_prefix(prefix)
    if prefix.endswith(".qkv"):
        return [f"{prefix.removesuffix('qkv')}to_{part}.{kind}" for part in "qkv"]
    return [f"{prefix}.{kind}"]


def _source_prefix(prefix: str) -> str:
    """encoder.0.blocks.1.conv1 -> down_blocks.0.resnets.1.conv1, and so on."""
    is_attention = "attention" in prefix
    for ours, theirs in (
        ("encoder.", "down_blocks."),
        ("decoder.", "up_blocks."),
        ("middle_in.", "mid_block.resnets.0."),
        ("middle_out.", "mid_block.resnets.1."),
        ("middle_attention.", "mid_block.attentions.0."),
        ("norm_out", "conv_norm_out"),
    ):
        if prefix.startswith(ours):
            prefix = theirs + prefix.removeprefix(ours)
            break
    side = prefix.split(".")[0]
    for ours, theirs in (
        (".blocks.", ".resnets."),
        (".resample.", ".downsamplers.0." if side == "down_blocks" else ".upsamplers.0."),
        (".time", ".time_emb_proj"),
        (".shortcut", ".conv_shortcut"),
        *(((".norm", ".group_norm"), (".project", ".to_out.0")) if is_attention else ()),
    ):
        prefix = prefix.replace(ours, theirs)
    return prefix
