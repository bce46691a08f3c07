"""The denoiser: DDPM's U-Net (Ho et al. 2020, appendix B) with attention at chosen levels."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import (
    Downsample,
    ResidualBlock,
    SelfAttention,
    TimestepEmbedding,
    Upsample,
    zero_init,
)
from neural_photo_editor.networks.fused_norm import GroupNormSiLU


class DenoisingUNet(nn.Module):
    """Predicts the noise in a noisy image: eps_theta(x_t, t) of DDPM, Algorithm 1 (or v).

    The layout (skips, order of layers) is that of diffusers' UNet2DModel, so its weights fit
    (`diffusers_weights`). Two things make it faster at the same widths: heads of 64 channels
    instead of 8, and normalization with its activation in one pass.

    Args:
        widths: channels of each level, finest first; every level but the last halves the image.
        attention_levels: indices of levels with self-attention after each residual block. The
            middle always attends.
        head_dim: channels of each attention head; None is one head of all channels.
        stem_factor: 2 folds each 2x2 patch of pixels into channels at the input and back at the
            output, so that every level works on a quarter of the pixels.
        norm_eps, flip_sin_to_cos, freq_shift, downsample_padding: published weights differ here.

    Raises:
        ValueError: widths, groups, heads or levels that do not fit together.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        widths: Sequence[int] = (128, 256, 256, 512),
        blocks_per_level: int = 2,
        attention_levels: Sequence[int] = (3,),
        head_dim: int | None = 64,
        num_groups: int = 32,
        stem_factor: int = 1,
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        flip_sin_to_cos: bool = True,
        freq_shift: float = 0,
        downsample_padding: int = 1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "widths": list(widths),
            "blocks_per_level": blocks_per_level,
            "attention_levels": list(attention_levels),
            "head_dim": head_dim,
            "num_groups": num_groups,
            "stem_factor": stem_factor,
            "dropout": dropout,
            "norm_eps": norm_eps,
            "flip_sin_to_cos": flip_sin_to_cos,
            "freq_shift": freq_shift,
            "downsample_padding": downsample_padding,
        }
        _check_config(self.config)
        self.stem_factor = stem_factor
        self.image_multiple = stem_factor * 2 ** (len(widths) - 1)
        embedding_width = 4 * widths[0]

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(
                inputs,
                outputs,
                embedding_width=embedding_width,
                num_groups=num_groups,
                eps=norm_eps,
                dropout=dropout,
            )

        def attention(channels: int, *, present: bool = True) -> nn.Module:
            if not present:
                return nn.Identity()
            return SelfAttention(channels, head_dim=head_dim, num_groups=num_groups, eps=norm_eps)

        self.time_embedding = TimestepEmbedding(
            width=widths[0],
            embedding_width=embedding_width,
            flip_sin_to_cos=flip_sin_to_cos,
            freq_shift=freq_shift,
        )
        pixels_per_cell = stem_factor**2
        self.conv_in = nn.Conv2d(in_channels * pixels_per_cell, widths[0], 3, padding=1)

        last = len(widths) - 1
        channels = widths[0]
        skips = [channels]
        self.encoder = nn.ModuleList()
        for level, width in enumerate(widths):
            encoder = _EncoderLevel()
            for _ in range(blocks_per_level):
                encoder.blocks.append(block(channels, width))
                encoder.attentions.append(attention(width, present=level in attention_levels))
                channels = width
                skips.append(channels)
            if level != last:
                encoder.resample = Downsample(channels, padding=downsample_padding)
                skips.append(channels)
            self.encoder.append(encoder)

        self.middle_in = block(channels, channels)
        self.middle_attention = attention(channels)
        self.middle_out = block(channels, channels)

        self.decoder = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            decoder = _DecoderLevel()
            for _ in range(blocks_per_level + 1):
                decoder.blocks.append(block(channels + skips.pop(), width))
                decoder.attentions.append(attention(width, present=level in attention_levels))
                channels = width
            if level != 0:
                decoder.resample = Upsample(channels)
            self.decoder.append(decoder)

        self.norm_out = GroupNormSiLU(num_groups, channels, eps=norm_eps)
        self.conv_out = zero_init(nn.Conv2d(channels, in_channels * pixels_per_cell, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict eps.

        Args:
            x: float, (N, C, H, W), noisy image scaled so that a clean one is in [-1, 1].
            t: int64, (N,), timesteps 1..T; `t - 1` is embedded, as in diffusers.

        Returns:
            eps, same shape as x.

        Raises:
            ValueError: height or width is no multiple of `image_multiple`.
        """
        if x.shape[-2] % self.image_multiple or x.shape[-1] % self.image_multiple:
            raise ValueError(
                f"image of {x.shape[-2]} x {x.shape[-1]} pixels: height and width must be "
                f"multiples of {self.image_multiple}; pad or crop it"
            )
        # Embedding.
        embedding = F.silu(self.time_embedding(t - 1))
        hidden = self.conv_in(F.pixel_unshuffle(x, self.stem_factor))

        # Encoder.
        skips = [hidden]
        for level in self.encoder:
            skips += level(skips[-1], embedding)

        # Middle.
        hidden = self.middle_attention(self.middle_in(skips[-1], embedding))
        hidden = self.middle_out(hidden, embedding)

        # Decoder.
        for level in self.decoder:
            hidden = level(hidden, embedding, skips)

        return F.pixel_shuffle(self.conv_out(self.norm_out(hidden)), self.stem_factor)


class _Level(nn.Module):
    """Residual blocks, an attention or identity after each, and a change of size at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.resample: nn.Module | None = None


class _EncoderLevel(_Level):
    def forward(self, hidden: Tensor, embedding: Tensor) -> list[Tensor]:
        """Return what every step of the level gave: the decoder takes all of it."""
        maps: list[Tensor] = []
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            hidden = attention(block(hidden, embedding))
            maps.append(hidden)
        if self.resample is not None:
            maps.append(self.resample(hidden))
        return maps


class _DecoderLevel(_Level):
    def forward(self, hidden: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Take one map per block off the end of `skips`."""
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            hidden = attention(block(torch.cat((hidden, skips.pop()), dim=1), embedding))
        return hidden if self.resample is None else self.resample(hidden)


def _check_config(config: dict[str, Any]) -> None:
    levels = len(config["widths"])
    if levels == 0:
        raise ValueError("widths is empty: give one number of channels per level")
    for width in config["widths"]:
        if width % config["num_groups"]:
            raise ValueError(
                f"a width of {width} does not divide into num_groups = {config['num_groups']}: "
                "choose widths that are multiples of num_groups"
            )
    outside = [level for level in config["attention_levels"] if not 0 <= level < levels]
    if outside:
        raise ValueError(f"attention_levels {outside} do not exist: levels are 0..{levels - 1}")
    if config["stem_factor"] < 1:
        raise ValueError(
            f"stem_factor is {config['stem_factor']}: 1 is no stem, 2 folds 2x2 pixels"
        )
    if config["downsample_padding"] not in (0, 1):
        raise ValueError(f"downsample_padding is {config['downsample_padding']}: choose 0 or 1")
