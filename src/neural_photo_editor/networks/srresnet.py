"""The upscaler: SRResNet, the generator of SRGAN (Ledig et al. 2017, Figure 4)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import zero_init


class SRResNet(nn.Module):
    """Upscales an image by `scale` (2, 4 or 8).

    Two deviations from the paper. No batch normalization: EDSR (Lim et al. 2017, section 3.1)
    found that it removes range information and costs 40 % of the memory, and without it an image's
    result does not depend on training statistics. And the network predicts the difference to the
    bicubic enlargement, so that it starts as bicubic and spends no steps on learning to copy.
    """

    def __init__(self, *, scale: int = 4, width: int = 64, num_blocks: int = 16) -> None:
        super().__init__()
        if scale not in (2, 4, 8):
            raise ValueError(f"scale is {scale}: choose 2, 4 or 8 (each doubling is one stage)")
        self.config: dict[str, Any] = {"scale": scale, "width": width, "num_blocks": num_blocks}
        self.scale = scale
        self.stem = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*[_ResidualBlock(width) for _ in range(num_blocks)])
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        stages: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            stages += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.upsample = nn.Sequential(*stages)
        self.head = zero_init(nn.Conv2d(width, 3, 9, padding=4))

    def forward(self, low: Tensor) -> Tensor:
        """Upscale.

        Args:
            low: float, (N, 3, H, W), in [-1, 1], any size.

        Returns:
            float, (N, 3, scale * H, scale * W), around [-1, 1], not clamped.
        """
        shallow = self.stem(low)
        deep = shallow + self.trunk(self.blocks(shallow))
        detail: Tensor = self.head(self.upsample(deep))
        return detail + F.interpolate(low, scale_factor=float(self.scale), mode="bicubic")


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.activation = nn.PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(self.activation(self.conv1(x)))
        return out
