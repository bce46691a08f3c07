"""The only owner of the two value ranges: uint8 in 0..255 on disk, float in [-1, 1] in models."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_model_range(image: Tensor | NDArray[np.uint8]) -> Tensor:
    """Map uint8 0..255 to float32 in [-1, 1]; any shape, kept; a tensor's device is kept.

    Raises:
        ValueError: the image is not uint8 (it may be in model range already).
    """
    tensor = torch.from_numpy(np.array(image)) if isinstance(image, np.ndarray) else image
    if tensor.dtype != torch.uint8:
        raise ValueError(f"expected a uint8 image, got {tensor.dtype}")
    return tensor.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(image: Tensor) -> Tensor:
    """Map float in [-1, 1] to uint8 0..255, rounding to nearest and clipping; the exact inverse.

    Raises:
        ValueError: the image is not floating point.
    """
    if not image.is_floating_point():
        raise ValueError(f"expected a floating-point image in [-1, 1], got {image.dtype}")
    return ((image.float() + 1.0) * 127.5).round_().clamp_(0.0, 255.0).to(torch.uint8)


def photo_to_tensor(photo: NDArray[np.uint8]) -> Tensor:
    """Turn a photo, uint8 (H, W, 3), into a model input, float32 (1, 3, H, W) in [-1, 1]."""
    return to_model_range(photo).permute(2, 0, 1).unsqueeze(0).contiguous()


def tensor_to_photo(image: Tensor) -> NDArray[np.uint8]:
    """Turn a model output, float (1, 3, H, W) in [-1, 1], into a photo, uint8 (H, W, 3)."""
    photo: NDArray[Any] = to_uint8(image).squeeze(0).permute(1, 2, 0).contiguous().cpu().numpy()
    return photo
