"""A converted UNet2DModel gives diffusers' outputs, and so does our network converted to one."""

import json
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from hypothesis import given
from hypothesis import strategies as st

from neural_photo_editor.networks.denoising_unet import DenoisingUNet
from neural_photo_editor.networks.diffusers_weights import (
    denoising_unet_config,
    load_unet2d,
    unet2d_config,
    unet2d_weights,
)

PLAIN = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "sample_size": 16,
}
FIRST_PUBLISHED = PLAIN | {
    "layers_per_block": 2,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
    "sample_size": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "diffusers' own defaults": PLAIN,
    "two blocks, other groups and head": PLAIN
    | {"layers_per_block": 2, "attention_head_dim": 16, "norm_num_groups": 8},
    # google/ddpm-celebahq-256 and its kin: channels 128, 128, 256, 256, 512, 512.
    "first published, 256 pixels, narrowed": FIRST_PUBLISHED
    | {
        "block_out_channels": (32, 32, 64, 64, 96, 96),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        "sample_size": 64,
    },
    # google/ddpm-cifar10-32: channels 128, 256, 256, 256.
    "first published, 32 pixels, narrowed": FIRST_PUBLISHED
    | {
        "block_out_channels": (32, 64, 64, 64),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D") + ("DownBlock2D",) * 2,
        "up_block_types": ("UpBlock2D",) * 2 + ("AttnUpBlock2D", "UpBlock2D"),
    },
    # diffusers' example of unconditional training: channels 128, 128, 256, 256, 512, 512.
    "trained with diffusers' example, narrowed": PLAIN
    | {
        "block_out_channels": (32, 32, 64, 64, 96, 96),
        "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        "layers_per_block": 2,
        "sample_size": 64,
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
    x = torch.randn(2, config["in_channels"], config["sample_size"], config["sample_size"])
    t = torch.tensor([1, 431])
    with torch.no_grad():
        torch.testing.assert_close(ours(x, t), theirs(x, t - 1).sample, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back_gives_diffusers_the_same_model(name: str) -> None:
    theirs = make_unet2d(CONFIGS[name])
    ours = load_unet2d(theirs.state_dict(), unet2d_config=dict(theirs.config))
    config = unet2d_config(ours.config, sample_size=CONFIGS[name]["sample_size"])
    again = UNet2DModel.from_config(config)
    # Each setting that a file of ours leaves out has diffusers' default in the original, too.
    settings, originals = (
        {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
        for config in (again.config, theirs.config)
    )
    for setting in settings:
        assert setting[0] == "_" or settings[setting] == originals[setting], setting
    weights, expected = unet2d_weights(ours), theirs.state_dict()
    assert weights.keys() == expected.keys()
    for key, weight in weights.items():
        assert torch.equal(weight, expected[key]), key


OURS: dict[str, dict[str, Any]] = {
    "the demo's": {
        "widths": [32, 64, 96, 128],
        "blocks_per_level": 1,
        "attention_levels": [3],
        "num_groups": 8,
    },
    "the published one's, narrowed": {
        "widths": [32, 32, 64, 64, 128],
        "attention_levels": [3, 4],
        "dropout": 0.1,
    },
    "one head, as the first published": {
        "widths": [16, 32],
        "attention_levels": [],
        "head_dim": None,
        "num_groups": 16,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "downsample_padding": 0,
        "norm_eps": 1e-6,
        "in_channels": 1,
    },
    "one level": {"widths": [64], "attention_levels": [0]},
}


@pytest.mark.parametrize("name", OURS)
def test_export_and_import_are_inverse_and_diffusers_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    ours = DenoisingUNet(**OURS[name]).eval()
    for parameter in ours.parameters():  # Some layers start at zero.
        torch.nn.init.normal_(parameter, std=0.1)
    config, weights = unet2d_config(ours.config, sample_size=32), unet2d_weights(ours)

    again = load_unet2d(weights, unet2d_config=config)
    assert again.config == ours.config
    for key, weight in again.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[key]), key

    theirs = UNet2DModel.from_config(config).eval()
    theirs.load_state_dict(weights)
    x = torch.randn(2, ours.config["in_channels"], 32, 32)
    t = torch.tensor([1, 431])
    with torch.no_grad():
        expected = ours(x, t)
        scale = expected.abs().max()
        torch.testing.assert_close(
            theirs(x, t - 1).sample / scale, expected / scale, atol=1e-5, rtol=0
        )


@st.composite
def network_configs(draw: st.DrawFn) -> dict[str, Any]:
    widths = draw(st.lists(st.integers(1, 8).map(lambda i: 32 * i), min_size=1, max_size=6))
    levels = st.sets(st.integers(0, len(widths) - 1))
    return {
        "in_channels": draw(st.integers(1, 4)),
        "widths": widths,
        "blocks_per_level": draw(st.integers(1, 4)),
        "attention_levels": sorted(draw(levels)),
        "head_dim": draw(st.sampled_from([None, 8, 32])),
        "num_groups": draw(st.sampled_from([8, 16, 32])),
        "stem_factor": 1,
        "dropout": draw(st.floats(0.0, 0.9)),
        "norm_eps": draw(st.floats(1e-8, 1e-3)),
        "flip_sin_to_cos": draw(st.booleans()),
        "freq_shift": draw(st.sampled_from([0, 1, 0.5])),
        "downsample_padding": draw(st.sampled_from([0, 1])),
    }


@given(network_configs())
def test_translations_of_configurations_are_inverse(config: dict[str, Any]) -> None:
    assert (
        config.keys() == DenoisingUNet(widths=[32], attention_levels=[], head_dim=8).config.keys()
    )
    written = json.loads(json.dumps(unet2d_config(config, sample_size=64)))
    assert denoising_unet_config(written) == config


def test_exported_weights_share_no_memory_with_the_network() -> None:
    ours = DenoisingUNet(widths=[32], attention_levels=[0], head_dim=32)
    for weight in unet2d_weights(ours).values():
        weight.fill_(7.0)
    assert not any((weight == 7.0).any() for weight in ours.state_dict().values())


def test_folded_pixels_cannot_be_exported() -> None:
    folded = DenoisingUNet(widths=[32, 32], attention_levels=[], head_dim=32, stem_factor=2)
    with pytest.raises(ValueError, match=r"stem_factor = 2 cannot be.*network\.stem_factor=1"):
        unet2d_config(folded.config, sample_size=32)


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
        ({"num_class_embeds": 10}, "num_class_embeds = 10 does not fit: only None does"),
        ({"time_embedding_dim": 99}, "time_embedding_dim"),
        ({"a_new_feature": 1}, "a_new_feature, which this program does not know"),
    ],
)
def test_features_without_a_counterpart_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        denoising_unet_config(PLAIN | change)


def test_a_configuration_without_its_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks block_out_channels"):
        denoising_unet_config({"sample_size": 16})


def test_weights_of_another_configuration_are_refused() -> None:
    weights = make_unet2d(PLAIN).state_dict()
    with pytest.raises(ValueError, match="do not belong"):
        load_unet2d(weights, unet2d_config=PLAIN | {"layers_per_block": 2})
    with pytest.raises(ValueError, match="do not belong"):
        load_unet2d(weights, unet2d_config=PLAIN | {"block_out_channels": (32, 96)})
    with pytest.raises(ValueError, match=r"unused.*extra\.weight"):
        load_unet2d(weights | {"extra.weight": torch.zeros(1)}, unet2d_config=PLAIN)
