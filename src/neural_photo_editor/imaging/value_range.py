"""The only owner of the two value ranges: uint8 in 0..255 on disk, float in [-1, 1] in models."""

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
    scaled = image.float().add(1.0).mul_(127.5)
    return scaled.round_().clamp_(0.0, 255.0).to(torch.uint8)


def photo_to_tensor(photo: NDArray[np.uint8]) -> Tensor:
    """Turn a photo, uint8 (H, W, 3), into a model input, float32 (1, 3, H, W) in [-1, 1]."""
    # Planes of bytes first: sorting floats into planes moves four times as much.
    planes = np.empty((1, photo.shape[2], *photo.shape[:2]), np.uint8)
    for channel in range(photo.shape[2]):
        planes[0, channel] = photo[..., channel]
    return to_model_range(torch.from_numpy(planes))


def tensor_to_photo(image: Tensor) -> NDArray[np.uint8]:
    """Turn a model output, float (1, 3, H, W) in [-1, 1], into a photo, uint8 (H, W, 3)."""
    planes = to_uint8(image).squeeze(0).cpu().numpy()
    photo = np.empty((*planes.shape[1:], planes.shape[0]), np.uint8)
    for channel, plane in enumerate(planes):
        photo[..., channel] = plane
    return photo
