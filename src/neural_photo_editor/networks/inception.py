"""The Inception-v3 network that FID is defined by, under the names of its published weights.

It is the network of TensorFlow's ``inception-2015-12-05``, not that of Szegedy et al. 2016: average
pools count no padding, the pool of the last block takes maxima, and there are 1008 classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_SIDE = 299
"""Side of the photos the network was trained on, in pixels."""

NUM_FEATURES = 2048
NUM_CLASSES = 1008
_NORM_EPS = 1e-3


class _Conv(NamedTuple):
    """A convolution of a block; with stride 1 it keeps the size, with stride 2 it pads nothing."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Step = tuple[_Conv, ...]
"""Convolutions of the same input, whose outputs are stacked."""

_Branches = tuple[tuple[_Step, ...], ...]


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _halving_maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=2)


class _ConvNormReLU(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.bn(self.conv(x))
        return normalized.relu_()


class _Mixed(nn.Module):
    """Branches of convolutions and one that pools, all stacked.

    Args:
        channels: of the input.
        branches: each a chain of steps.
        pool: what the last branch does first.
        pool_width: channels of the convolution ``branch_pool`` after the pool; None = there is
            none.
    """

    def __init__(
        self,
        channels: int,
        branches: _Branches,
        *,
        pool: Callable[[Tensor], Tensor],
        pool_width: int | None,
    ) -> None:
        super().__init__()
        self.chains = [[[conv.name for conv in step] for step in branch] for branch in branches]
        self.pool = pool
        self.out_channels = pool_width or channels
        for branch in branches:
            width = channels
            for step in branch:
                for conv in step:
                    self.add_module(conv.name, _of_block(width, conv))
                width = sum(conv.width for conv in step)
            self.out_channels += width
        self.branch_pool = (
            _ConvNormReLU(channels, pool_width, (1, 1)) if pool_width else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self.chains:
            hidden = x
            for step in chain:
                hidden = torch.cat([self.get_submodule(name)(hidden) for name in step], dim=1)
            outputs.append(hidden)
        return torch.cat([*outputs, self.branch_pool(self.pool(x))], dim=1)


def _of_block(channels: int, conv: _Conv) -> nn.Module:
    height, width = conv.kernel
    padding = (height // 2, width // 2) if conv.stride == 1 else (0, 0)
    return _ConvNormReLU(channels, conv.width, conv.kernel, stride=conv.stride, padding=padding)


def _chain(
    name: str, *convs: tuple[int, tuple[int, int]], last_stride: int = 1
) -> tuple[_Step, ...]:
    """Return a chain ``name_1``, ``name_2`` ... of widths and kernels, the last with a stride."""
    strides = [1] * (len(convs) - 1) + [last_stride]
    return tuple(
        (_Conv(f"{name}_{number}", width, kernel, stride),)
        for number, ((width, kernel), stride) in enumerate(zip(convs, strides, strict=True), 1)
    )


def _mixed_35(channels: int, *, pool_width: int) -> _Mixed:
    """Return a block of the 35x35 grid."""
    branches = (
        ((_Conv("branch1x1", 64),),),
        _chain("branch5x5", (48, (1, 1)), (64, (5, 5))),
        _chain("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
    )
    return _Mixed(channels, branches, pool=_average, pool_width=pool_width)


def _mixed_35_to_17(channels: int) -> _Mixed:
    branches = (
        ((_Conv("branch3x3", 384, (3, 3), 2),),),
        _chain("branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), last_stride=2),
    )
    return _Mixed(channels, branches, pool=_halving_maximum, pool_width=None)


def _mixed_17(channels: int, *, width: int) -> _Mixed:
    """Return a block of the 17x17 grid, ``width`` channels inside its factorized branches."""
    row, column = (1, 7), (7, 1)
    branches = (
        ((_Conv("branch1x1", 192),),),
        _chain("branch7x7", (width, (1, 1)), (width, row), (192, column)),
        _chain(
            "branch7x7dbl",
            (width, (1, 1)),
            (width, column),
            (width, row),
            (width, column),
            (192, row),
        ),
    )
    return _Mixed(channels, branches, pool=_average, pool_width=192)


def _mixed_17_to_8(channels: int) -> _Mixed:
    branches = (
        _chain("branch3x3", (192, (1, 1)), (320, (3, 3)), last_stride=2),
        _chain(
            "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3)), last_stride=2
        ),
    )
    return _Mixed(channels, branches, pool=_halving_maximum, pool_width=None)


def _mixed_8(channels: int, *, pool: Callable[[Tensor], Tensor]) -> _Mixed:
    """Return a block of the 8x8 grid, whose larger branches end in a row and a column each."""

    def row_and_column(name: str) -> _Step:
        return _Conv(f"{name}a", 384, (1, 3)), _Conv(f"{name}b", 384, (3, 1))

    branches = (
        ((_Conv("branch1x1", 320),),),
        (*_chain("branch3x3", (384, (1, 1))), row_and_column("branch3x3_2")),
        (
            *_chain("branch3x3dbl", (448, (1, 1)), (384, (3, 3))),
            row_and_column("branch3x3dbl_3"),
        ),
    )
    return _Mixed(channels, branches, pool=pool, pool_width=192)


class InceptionV3(nn.Module):
    """Photos to the 2,048 features "pool3" that FID (Heusel et al. 2017) compares.

    Meant to be used in evaluation mode with the published weights; it draws random ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _ConvNormReLU(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = _ConvNormReLU(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = _ConvNormReLU(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = _ConvNormReLU(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _ConvNormReLU(80, 192, (3, 3))
        self.Mixed_5b = _mixed_35(192, pool_width=32)
        self.Mixed_5c = _mixed_35(256, pool_width=64)
        self.Mixed_5d = _mixed_35(288, pool_width=64)
        self.Mixed_6a = _mixed_35_to_17(288)
        self.Mixed_6b = _mixed_17(768, width=128)
        self.Mixed_6c = _mixed_17(768, width=160)
        self.Mixed_6d = _mixed_17(768, width=160)
        self.Mixed_6e = _mixed_17(768, width=192)
        self.Mixed_7a = _mixed_17_to_8(768)
        self.Mixed_7b = _mixed_8(1280, pool=_average)
        self.Mixed_7c = _mixed_8(2048, pool=_maximum)
        # The classifier is never computed, yet belongs to the weights file.
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of photos.

        Args:
            x: float, (N, 3, 299, 299), in [-1, 1].

        Returns:
            float, (N, 2048), at least 0.
        """
        # The published graph reads (byte - 128) / 128, and a byte is 127.5 (x + 1).
        x = (255.0 * x - 1.0) / 256.0
        # 299 to 35 pixels.
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = _halving_maximum(x)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = _halving_maximum(x)
        # 35, 17 and 8 pixels.
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6a(x)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))
