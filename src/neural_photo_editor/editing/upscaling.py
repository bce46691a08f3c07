"""Enlarging with the learned upscaler: whole photos in tiles, edited squares to their photo."""

from collections.abc import Callable

import torch
from torch import Tensor

Upscaler = Callable[[Tensor], Tensor]
"""float (N, 3, H, W) in [-1, 1] -> (N, 3, scale * H, scale * W)."""

TILE = 256
"""Side of a tile's own pixels; with its context it takes about 1 GB in a 64-channel SRResNet."""

CONTEXT = 40
"""Pixels seen around a tile: the receptive field of a 16-block SRResNet, so tiles leave no seam."""

MAX_LEARNED_SIDE = 1024
"""Edited squares are enlarged by the network up to this side, and by interpolation beyond."""


def upscale_in_tiles(
    upscaler: Upscaler, low: Tensor, *, scale: int, tile: int = TILE, context: int = CONTEXT
) -> Tensor:
    """Upscale an image of any size in bounded memory.

    The result equals that of a single call when ``context`` covers the network's receptive field,
    up to rounding and to what the network does at the image's border.

    Args:
        upscaler: the network.
        low: float, (1, 3, H, W), in [-1, 1], on the device of the network.
        scale: the network's factor.
        tile: side of the tiles, in pixels of ``low``.
        context: pixels around each tile that the network sees too.

    Returns:
        float32, (1, 3, scale * H, scale * W), in [-1, 1], on the CPU.
    """
    height, width = low.shape[-2:]
    high = torch.empty((1, 3, height * scale, width * scale))
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - context, 0), max(left - context, 0)
            seen = low[..., y : bottom + context, x : right + context]
            enlarged = upscaler(seen)[
                ...,
                (top - y) * scale : (bottom - y) * scale,
                (left - x) * scale : (right - x) * scale,
            ]
            high[..., top * scale : bottom * scale, left * scale : right * scale] = enlarged
    return high.clamp_(-1.0, 1.0)


def enlarge_square(upscaler: Upscaler, square: Tensor, *, scale: int, side: int) -> Tensor:
    """Upscale an edited square as often as its place in the photo needs.

    Args:
        upscaler: the network.
        square: float, (1, 3, R, R), in [-1, 1].
        scale: the network's factor.
        side: side of the square in the photo, in pixels.

    Returns:
        float, (1, 3, S, S), in [-1, 1], with S = R * scale^k: the first S of at least ``side``,
        or the last within MAX_LEARNED_SIDE.
    """
    while square.shape[-1] < side and square.shape[-1] * scale <= MAX_LEARNED_SIDE:
        square = upscaler(square).float().clamp(-1.0, 1.0)
    return square
