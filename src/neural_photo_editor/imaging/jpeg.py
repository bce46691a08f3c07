"""What JPEG does to a photo, computed on the photo's device and without a file."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-T T.81, Annex K.1: quantization of luminance and chrominance at quality 50.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF 1.02: full-range YCbCr of ITU-R BT.601.
_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def jpeg_round_trip(image: Tensor, *, quality: int) -> Tensor:
    """Return photos as they come back from a baseline JPEG with chroma at half resolution (4:2:0).

    All that JPEG loses: chroma, rounding, quantization of 8 x 8 DCT coefficients (ITU-T T.81). What
    libjpeg writes differs by the rounding of its integer arithmetic.

    Args:
        image: float, (N, 3, H, W), in [-1, 1].
        quality: 1 to 100, scales the tables as the Independent JPEG Group does.

    Returns:
        float, (N, 3, H, W), in [-1, 1], on the 256 levels of a stored photo.
    """
    height, width = image.shape[-2:]
    pixels = image.float().add(1.0).mul(127.5).round().clamp(0.0, 255.0)
    ycbcr = _mix(pixels, _TO_YCBCR).round()
    luminance = _quantize(ycbcr[:, :1], _table(_LUMINANCE, quality))
    chrominance = F.avg_pool2d(_pad(ycbcr[:, 1:] + 128.0, 2), 2)
    chrominance = _quantize(chrominance.round(), _table(_CHROMINANCE, quality)) - 128.0
    # libjpeg's triangle filter: 3/4 of the nearer sample, 1/4 of the farther one.
    chrominance = F.interpolate(chrominance, scale_factor=2.0, mode="bilinear").round()
    planes = torch.cat((luminance, chrominance[..., :height, :width]), dim=1)
    return _mix(planes, _TO_RGB).round().clamp(0.0, 255.0).div(127.5).sub(1.0)


def _mix(pixels: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    # (3, 3, 1, 1) * (N, 1, 3, H, W), summed: no product of matrices, see `_quantize`.
    return (pixels.new_tensor(matrix)[..., None, None] * pixels[:, None]).sum(2)


def _pad(planes: Tensor, multiple: int) -> Tensor:
    height, width = planes.shape[-2:]
    return F.pad(planes, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _table(at_50: tuple[tuple[int, ...], ...], quality: int) -> list[list[int]]:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [[min(max((q * percent + 50) // 100, 1), 255) for q in row] for row in at_50]


def _quantize(planes: Tensor, table: list[list[int]]) -> Tensor:
    """Round the DCT coefficients of planes, (N, C, H, W) in 0..255, to multiples of the table's.

    In float64: a GPU that may take TF32 for products in float32 would round others.
    """
    n, c, height, width = planes.shape
    padded = _pad(planes, 8).double() - 128.0
    dct, steps = _dct(padded), padded.new_tensor(table)
    # (N, C, H, W) -> (N, C, H / 8, W / 8, 8, 8)
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = (dct @ blocks @ dct.T).div(steps).round().mul(steps)
    blocks = dct.T @ coefficients @ dct
    # (N, C, H / 8, W / 8, 8, 8) -> (N, C, H / 8, 8, W / 8, 8) -> (N, C, H, W)
    restored = blocks.transpose(3, 4).reshape(n, c, *padded.shape[-2:])
    return restored[..., :height, :width].add(128.0).round().clamp(0.0, 255.0).to(planes)


def _dct(like: Tensor) -> Tensor:
    """The orthonormal DCT-II of 8 samples as a matrix (T.81, A.3.3)."""
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * (k + 0.5) * k[:, None]) / 2
    matrix[0] /= math.sqrt(2.0)
    return matrix.to(like)
