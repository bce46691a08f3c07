"""A converted UNet2DModel gives diffusers' outputs."""

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel

from neural_photo_editor.networks.diffusers_weights import denoising_unet_config, load_unet2d

PLAIN = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "sample_size": 16,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "diffusers' own defaults": PLAIN,
    "two blocks, other groups and head": PLAIN
    | {"layers_per_block": 2, "attention_head_dim": 16, "norm_num_groups": 8},
    # google/ddpm-celebahq-256 and its kin.
    "as the first published weights": PLAIN
    | {
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "downsample_padding": 0,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
    },
    "no attention but in the middle": PLAIN
    | {
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "block_out_channels": (32, 32, 64),
    },
    "attention everywhere": PLAIN
    | {
        "down_block_types": ("AttnDownBlock2D",) * 2,
        "up_block_types": ("AttnUpBlock2D",) * 2,
        "in_channels": 1,
        "out_channels": 1,
    },
}


def make_unet2d(config: dict[str, Any]) -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(**config).eval()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_equal_diffusers(name: str, memory_format: torch.memory_format) -> None:
    theirs = make_unet2d(CONFIGS[name])
    config = dict(theirs.config)
    ours = load_unet2d(theirs.state_dict(), unet2d_config=config).eval()
    ours = ours.to(memory_format=memory_format)
    x = torch.randn(2, config["in_channels"], 16, 16)
    t = torch.tensor([1, 431])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t - 1).sample, atol=1e-5, rtol=1e-5)


def test_weights_saved_before_the_attention_layers_were_renamed() -> None:
    theirs = make_unet2d(PLAIN)
    weights = {
        name.replace(".to_q.", ".query.")
        .replace(".to_k.", ".key.")
        .replace(".to_v.", ".value.")
        .replace(".to_out.0.", ".proj_attn."): weight
        for name, weight in theirs.state_dict().items()
    }
    assert weights.keys() != theirs.state_dict().keys()
    ours = load_unet2d(weights, unet2d_config=dict(theirs.config)).eval()
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([7])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t - 1).sample, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "mish"}, "act_fn"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"down_block_types": ("DownBlock2D", "SkipDownBlock2D")}, "SkipDownBlock2D"),
        ({"up_block_types": ("UpBlock2D", "AttnUpBlock2D")}, "different levels"),
        ({"out_channels": 6}, "out_channels"),
    ],
)
def test_features_without_a_counterpart_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        denoising_unet_config(PLAIN | change)


def test_weights_of_another_configuration_are_refused() -> None:
    weights = make_unet2d(PLAIN).state_dict()
    with pytest.raises(ValueError, match="do not belong"):
        load_unet2d(weights, unet2d_config=PLAIN | {"layers_per_block": 2})
    with pytest.raises(ValueError, match="do not belong"):
        load_unet2d(weights, unet2d_config=PLAIN | {"block_out_channels": (32, 96)})
    with pytest.raises(ValueError, match=r"unused.*extra\.weight"):
        load_unet2d(weights | {"extra.weight": torch.zeros(1)}, unet2d_config=PLAIN)
