"""Weights of diffusers' UNet2DModel in a DenoisingUNet, so that published models can be used."""

from collections.abc import Iterator, Mapping
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
        converted = dict(_convert(source, network))
        network.load_state_dict(converted)
        if source:
            raise KeyError(f"unused: {', '.join(sorted(source))}")
    except (KeyError, RuntimeError) as error:
        raise ValueError(
            f"the weights do not belong to this UNet2DModel configuration: {error}"
        ) from error
    return network


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
    widths = config["block_out_channels"]
    if config.get("time_embedding_dim") not in (None, 4 * widths[0]):
        raise ValueError("UNet2DModel with its own time_embedding_dim does not fit")
    if config.get("in_channels", 3) != config.get("out_channels", 3):
        raise ValueError("UNet2DModel with in_channels != out_channels does not fit")
    return {
        "in_channels": config.get("in_channels", 3),
        "widths": list(widths),
        "blocks_per_level": config.get("layers_per_block", 2),
        "attention_levels": _attention_levels(config),
        "head_dim": config.get("attention_head_dim", 8),
        "num_groups": config.get("norm_num_groups", 32),
        "dropout": config.get("dropout", 0.0),
        "norm_eps": config.get("norm_eps", 1e-5),
        "flip_sin_to_cos": config.get("flip_sin_to_cos", True),
        "freq_shift": config.get("freq_shift", 0),
        "downsample_padding": config.get("downsample_padding", 1),
    }


def _attention_levels(config: Mapping[str, Any]) -> list[int]:
    with_attention = {"Down": "AttnDownBlock2D", "Up": "AttnUpBlock2D"}
    plain = {"Down": "DownBlock2D", "Up": "UpBlock2D"}
    sides = {}
    for side, types in (
        ("Down", config["down_block_types"]),
        ("Up", config["up_block_types"][::-1]),
    ):
        for block_type in types:
            if block_type not in (with_attention[side], plain[side]):
                raise ValueError(f"UNet2DModel with block type {block_type} does not fit")
        sides[side] = [i for i, name in enumerate(types) if name == with_attention[side]]
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


def _convert(source: dict[str, Tensor], network: DenoisingUNet) -> Iterator[tuple[str, Tensor]]:
    """Move the weights out of `source` under DenoisingUNet's names; KeyError if one is absent."""
    for name, weight in network.state_dict().items():
        prefix, _, kind = name.rpartition(".")  # kind: weight or bias
        prefix = _source_prefix(prefix)
        if prefix.endswith(".qkv"):
            stem = prefix.removesuffix("qkv")
            value = torch.cat([source.pop(f"{stem}to_{part}.{kind}") for part in "qkv"])
        else:
            value = source.pop(f"{prefix}.{kind}")
        # Attention was a 1x1 convolution in some early files.
        yield name, value.reshape(weight.shape)


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
