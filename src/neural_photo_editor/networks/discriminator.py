"""The discriminator of SRGAN (Ledig et al. 2017, Figure 4), fully convolutional."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Tells photographs from upscaled images.

    The paper's two dense layers fix the image's size; here they are 1x1 convolutions, so that one
    network judges crops of 128 pixels and portraits of 512, patch by patch.

    Args:
        widths: channels of each level; each level halves the image once, so the logit map has
            1 / 2**len(widths) of the image's height and width.
        dense_width: channels of the hidden layer before the logits.
    """

    def __init__(
        self, *, widths: Sequence[int] = (64, 128, 256, 512), dense_width: int = 1024
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths is empty: give one number of channels per level")
        self.config: dict[str, Any] = {"widths": list(widths), "dense_width": dense_width}
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), _activation()]
        layers += _block(widths[0], widths[0], stride=2)
        for inputs, outputs in pairwise(widths):
            layers += _block(inputs, outputs, stride=1)
            layers += _block(outputs, outputs, stride=2)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], dense_width, 1), _activation(), nn.Conv2d(dense_width, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Judge.

        Args:
            x: float, (N, 3, H, W), in [-1, 1].

        Returns:
            logits, float, (N, 1, h, w); positive means photograph.
        """
        logits: Tensor = self.head(self.features(x))
        return logits


def _block(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        _activation(),
    ]


def _activation() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)
