"""The upscaler: SRResNet, the generator of SRGAN (Ledig et al. 2017, Figure 4)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.blocks import zero_init


class SRResNet(nn.Module):
    """Upscales an image by `scale` (2, 4 or 8).

    Two deviations from the paper. No batch normalization: EDSR (Lim et al. 2017, section 3.1)
    found that it removes range information and costs 40 % of the memory, and without it an image's
    result does not depend on training statistics. And the network predicts the difference to the
    bicubic enlargement, so that it starts as bicubic and spends no steps on learning to copy.

    Args:
        width: channels of every layer.
        outer_kernel: side of the first and last convolution's kernel, odd: 9 in the paper; the
            last one works on every output pixel, and 3 makes it several times cheaper.
    """

    def __init__(
        self, *, scale: int = 4, width: int = 64, num_blocks: int = 16, outer_kernel: int = 9
    ) -> None:
        super().__init__()
        if scale not in (2, 4, 8):
            raise ValueError(f"scale is {scale}: choose 2, 4 or 8 (each doubling is one stage)")
        if outer_kernel % 2 == 0:
            raise ValueError(f"outer_kernel is {outer_kernel}: choose an odd number, 9 or 3")
        self.config: dict[str, Any] = {
            "scale": scale,
            "width": width,
            "num_blocks": num_blocks,
            "outer_kernel": outer_kernel,
        }
        self.scale = scale
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, outer_kernel, padding=outer_kernel // 2), _PReLU()
        )
        self.blocks = nn.Sequential(*[_ResidualBlock(width) for _ in range(num_blocks)])
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        stages: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            stages += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), _PReLU()]
        stages[-2] = nn.Identity()  # The head does it.
        self.upsample = nn.Sequential(*stages)
        self.head = zero_init(ShuffleConv(width, 3, outer_kernel, padding=outer_kernel // 2))

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


class ShuffleConv(nn.Conv2d):
    """nn.PixelShuffle(2), then a convolution with an odd kernel, computed as one.

    The pair equals a convolution of what is not yet shuffled, with 4 results per cell that are
    shuffled afterwards. Of its kernel some weights are zeros (a fifth for a side of 9, three
    quarters for 3), but the map that it reads is never rearranged, and processors that compute 16
    channels at once waste 4 of them on 3 colors instead of 13.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: float, (N, 4 * in_channels, H, W). Returns (N, out_channels, 2 * H, 2 * W)."""
        kernel, bias = self.kernel_before_shuffle()
        return F.pixel_shuffle(F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2), 2)

    def kernel_before_shuffle(self) -> tuple[Tensor, Tensor]:
        """The kernel, (4 * out_channels, 4 * in_channels, K, K), and the bias of that convolution.

        Of the 2 x 2 results per cell, the one at (dy, dx) sees the kernel moved by (dy, dx), in
        a window of K x K cells around its own.
        """
        outputs, inputs, side, _ = self.weight.shape
        reach = (side // 2 + 1) // 2  # whole cells that the kernel reaches beyond its own
        cells = 2 * reach + 1
        before = 2 * reach - side // 2
        after = 2 * cells - side - before
        moved = torch.stack(
            [
                F.pad(self.weight, (before + dx, after - dx, before + dy, after - dy))
                for dy in (0, 1)
                for dx in (0, 1)
            ],
            dim=1,
        )
        # (O, 4, I, K, 2, K, 2) -> (O, 4, I, 2, 2, K, K), the order that PixelShuffle takes apart
        kernel = moved.view(outputs, 4, inputs, cells, 2, cells, 2).permute(0, 1, 2, 4, 6, 3, 5)
        kernel = kernel.reshape(4 * outputs, 4 * inputs, cells, cells)
        assert self.bias is not None
        return kernel, self.bias.repeat_interleave(4)


class _PReLU(nn.PReLU):
    """PReLU with one slope, as relu(x) + slope * (x - relu(x)).

    torch's backward pass of PReLU takes several times as long in bfloat16 on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(F.relu(x), x, self.weight.to(x.dtype))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.activation = _PReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(self.activation(self.conv1(x)))
        return out
