"""Blocks shared by the networks: normalization, residual and attention blocks, resampling."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neural_photo_editor.networks.fused_norm import GroupNormSiLU

_FEW_PIXELS = 64  # up to here the kernels of `Upsample` have more numbers than the maps
_FEW_TOKENS = 256  # up to here the matrix of attention weights fits into a CPU's cache

LayerT = TypeVar("LayerT", nn.Conv2d, nn.Linear)


class TimestepEmbedding(nn.Module):
    """Sinusoidal embedding of the timestep (DDPM, appendix B) and two linear layers.

    `flip_sin_to_cos` puts the cosines first and `freq_shift` is subtracted from the number of
    frequencies in the exponent; both exist because published weights differ in them.
    """

    frequencies: Tensor

    def __init__(
        self, *, width: int, embedding_width: int, flip_sin_to_cos: bool, freq_shift: float
    ) -> None:
        super().__init__()
        half = width // 2
        if width % 2 or half <= freq_shift:
            raise ValueError(
                f"widths[0] = {width} cannot hold a sinusoidal embedding: choose an even "
                f"first width above {2 * freq_shift}"
            )
        exponent = -math.log(10_000) * torch.arange(half, dtype=torch.float32) / (half - freq_shift)
        self.register_buffer("frequencies", exponent.exp(), persistent=False)
        self.flip_sin_to_cos = flip_sin_to_cos
        self.linear_1 = nn.Linear(width, embedding_width)
        self.linear_2 = nn.Linear(embedding_width, embedding_width)

    def forward(self, timestep: Tensor) -> Tensor:
        """timestep: (N,), any real dtype, 0-based. Returns (N, embedding_width)."""
        angle = timestep.float()[:, None] * self.frequencies[None, :]
        waves = (angle.cos(), angle.sin()) if self.flip_sin_to_cos else (angle.sin(), angle.cos())
        hidden = F.silu(self.linear_1(torch.cat(waves, dim=1).to(self.linear_1.weight.dtype)))
        embedding: Tensor = self.linear_2(hidden)
        return embedding


class ResidualBlock(nn.Module):
    """DDPM's residual block: norm, SiLU, conv, + time, norm, SiLU, dropout, conv, + shortcut."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embedding_width: int,
        num_groups: int,
        eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNormSiLU(num_groups, in_channels, eps=eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(embedding_width, out_channels)
        self.norm2 = GroupNormSiLU(num_groups, out_channels, eps=eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """embedding: (N, embedding_width), SiLU already applied (once for all blocks)."""
        hidden = self.norm2(self.conv1(self.norm1(x)), self.time(embedding))
        hidden = self.conv2(self.dropout(hidden))
        out: Tensor = self.shortcut(x) + hidden
        return out


class SelfAttention(nn.Module):
    """Self-attention over all pixels (Vaswani et al. 2017, Eq. 1) with a residual connection.

    head_dim: channels of each head; None is one head of all channels.
    """

    def __init__(self, channels: int, *, head_dim: int | None, num_groups: int, eps: float) -> None:
        super().__init__()
        head_dim = head_dim or channels
        if channels % head_dim:
            raise ValueError(
                f"a width of {channels} does not divide into heads of {head_dim}: choose a "
                "head_dim that divides the last width and those of attention_levels"
            )
        self.head_dim = head_dim
        self.norm = nn.GroupNorm(num_groups, channels, eps=eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        # (N, C, H, W) -> (N, HW, C)
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        # (N, HW, 3C) -> 3 x (N, heads, HW, head_dim)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        attended = _attend(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        out: Tensor = self.project(attended).view(n, h, w, c).permute(0, 3, 1, 2)
        return x + out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (N, heads, tokens, d)."""
    if q.device.type == "cpu" and q.shape[-2] <= _FEW_TOKENS:
        # torch's fused operation takes up to four times as long here, its backward pass above all.
        weights = torch.softmax(q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2), dim=-1)
        return weights.to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Downsample(nn.Module):
    """Halves height and width with a strided convolution.

    padding 1 pads every side; padding 0 pads right and bottom only, as DDPM's TensorFlow code did.
    """

    def __init__(self, channels: int, *, padding: int) -> None:
        super().__init__()
        self.pad_right_bottom = padding == 0
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.pad_right_bottom else x)
        return out


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbor, then a 3x3 convolution, computed as one.

    The pair equals a transposed convolution with stride 2 whose 4x4 kernel is the 3x3 kernel
    convolved with a 2x2 box: 4 products per output pixel instead of 9, and no enlarged copy. For
    maps of few pixels, making that kernel costs more than it saves.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2] * x.shape[-1] <= _FEW_PIXELS:
            enlarged: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            return enlarged
        kernel = upsampling_kernel(self.conv.weight)
        out = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        # Given to the convolution, the bias would double the time of the kernel's gradient on CPUs.
        return out if self.conv.bias is None else out.add_(self.conv.bias[:, None, None])


def upsampling_kernel(weight: Tensor) -> Tensor:
    """The transposed convolution's kernel in `Upsample`: (O, I, 3, 3) to (I, O, 4, 4)."""
    kernel = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    kernel = kernel[..., 1:, :] + kernel[..., :-1, :]
    return kernel[..., 1:] + kernel[..., :-1]


def zero_init(layer: LayerT) -> LayerT:
    """Set a layer's weights to zero, so that its residual branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the right and bottom edge until height and width are multiples of `multiple`."""
    bottom, right = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    if not (bottom or right):
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")
