"""The segmenter: a U-Net (Ronneberger et al. 2015) with batch normalization."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import pad_to_multiple


class SegmentationUNet(nn.Module):
    """Predicts one region per pixel.

    Differs from the paper in padding every convolution (the output is as large as the input) and
    in batch normalization: at inference it folds into the convolution before it and costs nothing,
    and photos of portraits make batches that are alike enough for it.

    Args:
        num_classes: regions, 11 in this project.
        widths: channels of each level, finest first; every level but the last halves the image.
        stem_factor: 2 folds each 2x2 patch of pixels into channels at the input and unfolds the
            logits, so that every level works on a quarter of the pixels.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 11,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks_per_level: int = 2,
        stem_factor: int = 1,
    ) -> None:
        super().__init__()
        if not widths or blocks_per_level < 1 or stem_factor < 1:
            raise ValueError(
                f"widths {list(widths)}, blocks_per_level {blocks_per_level}, stem_factor "
                f"{stem_factor}: give at least one level, one block and a factor of at least 1"
            )
        self.config: dict[str, Any] = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "widths": list(widths),
            "blocks_per_level": blocks_per_level,
            "stem_factor": stem_factor,
        }
        self.stem_factor = stem_factor
        self.image_multiple = stem_factor * 2 ** (len(widths) - 1)

        self.encoder = nn.ModuleList()
        channels = in_channels * stem_factor**2
        for width in widths:
            self.encoder.append(_conv_blocks(channels, width, blocks_per_level))
            channels = width
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.upsample.append(nn.ConvTranspose2d(channels, width, 2, stride=2))
            self.decoder.append(_conv_blocks(2 * width, width, blocks_per_level))
            channels = width
        self.head = nn.Conv2d(channels, num_classes * stem_factor**2, 1)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Feature maps of every level, finest first; x as in `forward`, padded already."""
        features: list[Tensor] = []
        hidden = F.pixel_unshuffle(x, self.stem_factor)
        for level, stage in enumerate(self.encoder):
            hidden = stage(hidden if level == 0 else F.max_pool2d(hidden, 2))
            features.append(hidden)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Predict logits.

        Args:
            x: float, (N, 3, H, W), in [-1, 1], any height and width.

        Returns:
            logits, float, (N, num_classes, H, W).
        """
        height, width = x.shape[-2:]
        # Encoder.
        *skips, hidden = self.encode(pad_to_multiple(x, self.image_multiple))

        # Decoder.
        for upsample, stage, skip in zip(self.upsample, self.decoder, reversed(skips), strict=True):
            hidden = stage(torch.cat((upsample(hidden), skip), dim=1))

        logits = F.pixel_shuffle(self.head(hidden), self.stem_factor)
        return logits[..., :height, :width]


def _conv_blocks(in_channels: int, out_channels: int, num_blocks: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(num_blocks):
        inputs = in_channels if index == 0 else out_channels
        # No bias: the normalization's shift does its work.
        layers += [
            nn.Conv2d(inputs, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
