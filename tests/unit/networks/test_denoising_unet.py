"""What only the denoiser promises."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding

from neural_photo_editor.networks.blocks import SelfAttention, TimestepEmbedding, Upsample
from neural_photo_editor.networks.denoising_unet import DenoisingUNet


def small(**changes: object) -> DenoisingUNet:
    arguments: dict[str, object] = {
        "widths": (16, 32),
        "blocks_per_level": 1,
        "attention_levels": (1,),
        "head_dim": 16,
        "num_groups": 8,
    }
    return DenoisingUNet(**(arguments | changes))  # type: ignore[arg-type]


def test_starts_by_predicting_no_noise() -> None:
    out = small()(torch.randn(2, 3, 8, 8), torch.tensor([1, 500]))
    assert torch.equal(out, torch.zeros_like(out))


def test_timestep_changes_the_prediction() -> None:
    network = small()
    for layer in (network.middle_out.conv2, network.conv_out):
        torch.nn.init.normal_(layer.weight)
    x = torch.randn(1, 3, 8, 8).expand(2, -1, -1, -1)
    first, second = network(x, torch.tensor([3, 250]))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize(("flip", "shift"), [(True, 0), (False, 1)])
def test_timestep_embedding_is_that_of_diffusers(flip: bool, shift: int) -> None:
    embed = TimestepEmbedding(width=32, embedding_width=32, flip_sin_to_cos=flip, freq_shift=shift)
    t = torch.tensor([0, 1, 77, 499])
    waves = get_timestep_embedding(t, 32, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    expected = embed.linear_2(F.silu(embed.linear_1(waves)))
    torch.testing.assert_close(embed(t), expected, atol=2e-5, rtol=1e-4)


def test_upsampling_equals_nearest_neighbor_and_convolution() -> None:
    upsample = Upsample(5).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    expected = upsample.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(upsample(x), expected)


@pytest.mark.parametrize("side", [4, 17])  # few tokens, and more than are computed by hand
def test_attention_against_a_plain_sum(side: int) -> None:
    attention = SelfAttention(8, head_dim=4, num_groups=2, eps=1e-5).double()
    torch.nn.init.normal_(attention.project.weight)
    x = torch.randn(1, 8, side, side, dtype=torch.float64)
    tokens = attention.norm(x).flatten(2)[0].T
    q, k, v = attention.qkv(tokens).split(8, dim=1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = (q[:, head] @ k[:, head].T / 4**0.5).exp()
        heads.append(weights @ v[:, head] / weights.sum(1, keepdim=True))
    expected = x + attention.project(torch.cat(heads, dim=1)).T.reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (16, 20)}, "num_groups"),
        ({"attention_levels": (2,)}, "levels are 0..1"),
        ({"head_dim": 24}, "head_dim"),
        ({"stem_factor": 0}, "stem_factor"),
        ({"downsample_padding": 2}, "downsample_padding"),
    ],
)
def test_wrong_configurations_name_their_remedy(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_an_image_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        small(stem_factor=2)(torch.zeros(1, 3, 16, 18), torch.tensor([1]))
