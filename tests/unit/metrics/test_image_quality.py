"""PSNR and SSIM against scikit-image in float64."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from neural_photo_editor.metrics.image_quality import psnr, ssim


@pytest.fixture
def photos() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:20, 0:33] / 8
    smooth = np.stack([np.sin(x + c) * np.cos(y * (c + 1)) for c in range(3)], axis=-1)
    first = np.stack([smooth, smooth[::-1]]).clip(-1, 1)
    second = (first + 0.2 * generator.standard_normal(first.shape)).clip(-1, 1)
    return first, second


def to_tensor(photos: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photos).movedim(-1, 1)


def test_psnr_equals_scikit_image(photos: tuple[np.ndarray, np.ndarray]) -> None:
    expected = [peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in zip(*photos, strict=True)]
    np.testing.assert_allclose(psnr(*map(to_tensor, photos)).numpy(), expected, rtol=1e-12)


def test_ssim_equals_scikit_image(photos: tuple[np.ndarray, np.ndarray]) -> None:
    expected = []
    for a, b in zip(*photos, strict=True):
        _, full = structural_similarity(
            a,
            b,
            data_range=2.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=-1,
            full=True,
        )
        expected.append(full[5:-5, 5:-5].mean())  # scikit-image mirrors at the border
    np.testing.assert_allclose(ssim(*map(to_tensor, photos)).numpy(), expected, rtol=1e-9)


def test_uint8_with_its_own_range(photos: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = ((p * 127.5 + 127.5).round().astype(np.uint8) for p in photos)
    expected = [peak_signal_noise_ratio(x, y) for x, y in zip(a, b, strict=True)]
    actual = psnr(to_tensor(a), to_tensor(b), data_range=255)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)


def test_equal_images(photos: tuple[np.ndarray, np.ndarray]) -> None:
    image = to_tensor(photos[0]).float()
    assert torch.isinf(psnr(image, image)).all()
    torch.testing.assert_close(ssim(image, image), torch.ones(2, dtype=torch.float64))


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
