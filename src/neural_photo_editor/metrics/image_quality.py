"""Full-reference image quality: PSNR and SSIM, per image, on all channels or on luma."""

import torch
import torch.nn.functional as F
from torch import Tensor

from neural_photo_editor.imaging.value_range import to_uint8

_SSIM_SIGMA = 1.5  # pixels
_SSIM_WINDOW = 11  # pixels
_SSIM_K1, _SSIM_K2 = 0.01, 0.03
# ITU-R BT.601 for R, G, B in 0..1 and Y in 16..235, as MATLAB's rgb2ycbcr.
_LUMA = (65.481, 128.553, 24.966)
_BLACK = 16.0


def psnr(image: Tensor, target: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Peak signal-to-noise ratio, 10 * log10(data_range^2 / MSE), over all channels.

    Args:
        image, target: (N, C, H, W), any real dtype.
        data_range: largest minus smallest possible value; 2 for [-1, 1], 255 for uint8.

    Returns:
        float64, (N,), in dB; infinite for equal images.

    Raises:
        ValueError: shapes differ.
    """
    image, target = _as_float64(image, target)
    mse = (image - target).square().mean((1, 2, 3))
    return 10 * torch.log10(data_range**2 / mse)


def ssim(image: Tensor, target: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Structural similarity (Wang et al. 2004, Eq. 13), mean over pixels and channels.

    As in the paper: Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03,
    population covariances, windows that lie inside the image. Every channel is rated by itself.

    Args:
        image, target: (N, C, H, W), any real dtype, at least 11 x 11 pixels.
        data_range: as in `psnr`.

    Returns:
        float64, (N,), at most 1.

    Raises:
        ValueError: shapes differ, or an image is smaller than the window.
    """
    image, target = _as_float64(image, target)
    if min(image.shape[-2:]) < _SSIM_WINDOW:
        raise ValueError(
            f"images of {image.shape[-2]} x {image.shape[-1]} pixels: SSIM needs at least "
            f"{_SSIM_WINDOW} x {_SSIM_WINDOW}"
        )
    c1, c2 = (_SSIM_K1 * data_range) ** 2, (_SSIM_K2 * data_range) ** 2
    mu_x, mu_y = _blur(image), _blur(target)
    sigma_xx = _blur(image * image) - mu_x * mu_x
    sigma_yy = _blur(target * target) - mu_y * mu_y
    sigma_xy = _blur(image * target) - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + c1) / (mu_x**2 + mu_y**2 + c1)
    structure = (2 * sigma_xy + c2) / (sigma_xx + sigma_yy + c2)
    return (luminance * structure).mean((1, 2, 3))


def psnr_y(image: Tensor, target: Tensor, *, border: int) -> Tensor:
    """PSNR as papers on super-resolution report it: of luma, without a border, peak 255.

    Args:
        image, target: float, (N, 3, H, W), in [-1, 1].
        border: pixels left out on each side; by convention the factor of enlargement.

    Returns:
        float64, (N,), in dB.
    """
    return psnr(luma(image, border=border), luma(target, border=border), data_range=255.0)


def ssim_y(image: Tensor, target: Tensor, *, border: int) -> Tensor:
    """SSIM as papers on super-resolution report it; see `psnr_y` and `ssim`."""
    return ssim(luma(image, border=border), luma(target, border=border), data_range=255.0)


def luma(image: Tensor, *, border: int = 0) -> Tensor:
    """Return the luma of a photo, first rounded to 8 bits as when it is stored.

    MATLAB's rgb2ycbcr rounds luma too; like most Python code for these metrics, this does not. The
    PSNR of the two differs by a few hundredths of a decibel at most.

    Args:
        image: float, (N, 3, H, W), in [-1, 1].
        border: pixels left out on each side.

    Returns:
        float64, (N, 1, H - 2 border, W - 2 border), in 16..235.

    Raises:
        ValueError: nothing is left, or there are not three channels.
    """
    height, width = image.shape[-2:]
    if image.shape[-3] != 3 or min(height, width) <= 2 * border:
        raise ValueError(
            f"images of shape {tuple(image.shape)}: luma without a border of {border} pixels needs "
            f"(N, 3, H, W) with sides above {2 * border}"
        )
    inner = image[..., border : height - border, border : width - border]
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=image.device)
    return _BLACK + torch.einsum("c,nchw->nhw", weights / 255.0, to_uint8(inner).double())[:, None]


def _blur(x: Tensor) -> Tensor:
    """Gaussian window around every pixel that has a whole one, separably."""
    offsets = torch.arange(_SSIM_WINDOW, dtype=x.dtype, device=x.device) - _SSIM_WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    window = window / window.sum()
    n, c, h, w = x.shape
    planes = F.conv2d(x.reshape(n * c, 1, h, w), window.view(1, 1, -1, 1))
    planes = F.conv2d(planes, window.view(1, 1, 1, -1))
    return planes.view(n, c, *planes.shape[-2:])


def _as_float64(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != target.shape or image.ndim != 4:
        raise ValueError(
            f"image is {tuple(image.shape)} and target {tuple(target.shape)}: give two batches "
            "(N, C, H, W) of the same shape"
        )
    return image.double(), target.double()
