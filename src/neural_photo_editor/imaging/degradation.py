"""How a low-resolution training input is made from a photo."""

from torch import Tensor
from torch.nn import functional as F


def bicubic_downscale(image: Tensor, scale: int) -> Tensor:
    """Shrink by an integer factor with antialiased bicubic interpolation (as Pillow's BICUBIC).

    Args:
        image: float, (N, 3, H, W), in [-1, 1]; H and W divisible by ``scale``.
        scale: the factor, at least 1.

    Returns:
        float, (N, 3, H / scale, W / scale), clipped to [-1, 1] since bicubic overshoots.

    Raises:
        ValueError: a side is not divisible by the factor.
    """
    height, width = image.shape[-2:]
    if scale < 1 or height % scale or width % scale:
        raise ValueError(
            f"cannot shrink {height}x{width} by {scale}; crop to a multiple of {scale} first"
        )
    size = (height // scale, width // scale)
    small = F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(-1.0, 1.0)
