"""Enlarging with the learned upscaler: whole photos in tiles, edited squares to their photo."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo
from neural_photo_editor.networks.srresnet import SRResNet

Upscaler = Callable[[Tensor], Tensor]
"""float (N, 3, H, W) in [-1, 1] -> (N, 3, scale * H, scale * W)."""

TILE = 256
"""Side of a tile's own pixels; with its context it takes about 1 GB in a 64-channel SRResNet."""

MAX_LEARNED_SIDE = 1024
"""Edited squares are enlarged by the network up to this side, and by interpolation beyond."""


def context_of(network: SRResNet) -> int:
    """Return how far an upscaler looks around a pixel, in pixels of its input, rounded up."""
    config = network.config
    edge, scale = int(config["outer_kernel"]) // 2, int(config["scale"])
    # Of the 3 x 3 convolutions two are in a block and one is the trunk's; each doubling has one,
    # on pixels half as large as the doubling's before it.
    doublings = sum(0.5**index for index in range(scale.bit_length() - 1))
    return math.ceil(edge + 2 * int(config["num_blocks"]) + 1 + doublings + edge / scale)


def upscale_in_tiles(
    upscaler: Upscaler,
    photo: Photo,
    *,
    scale: int,
    context: int,
    device: torch.device | str = "cpu",
    tile: int = TILE,
) -> Photo:
    """Upscale a photo of any size; beside photo and result, memory is that of one tile.

    With the ``context`` of the network (`context_of`) the result equals that of a single call, up
    to rounding, so that tiles leave no seam and nothing has to be blended.

    Args:
        upscaler: the network.
        photo: uint8, (H, W, 3).
        scale: the network's factor.
        context: pixels around each tile that the network sees too.
        device: device of the network.
        tile: side of the tiles, in pixels of ``photo``.

    Returns:
        uint8, (scale * H, scale * W, 3).
    """
    height, width = photo.shape[:2]
    high = np.empty((height * scale, width * scale, 3), dtype=np.uint8)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - context, 0), max(left - context, 0)
            seen = photo_to_tensor(photo[y : bottom + context, x : right + context]).to(device)
            enlarged = upscaler(seen)[
                ...,
                (top - y) * scale : (bottom - y) * scale,
                (left - x) * scale : (right - x) * scale,
            ]
            high[top * scale : bottom * scale, left * scale : right * scale] = tensor_to_photo(
                enlarged
            )
    return high


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
