"""PSNR and SSIM against scikit-image in float64; luma against its rgb2ycbcr and by hand."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from neural_photo_editor.metrics.image_quality import luma, psnr, psnr_y, ssim, ssim_y


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


def test_luma_is_that_of_bt_601() -> None:
    colors = torch.tensor([[-1, -1, -1], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    expected = [16.0, 235.0, 81.481, 144.553, 40.966]
    np.testing.assert_allclose(luma(colors.T[None, :, None]).flatten().numpy(), expected)


@pytest.mark.parametrize("border", [0, 4])
def test_metrics_on_luma_equal_scikit_image(
    photos: tuple[np.ndarray, np.ndarray], border: int
) -> None:
    """A chain of its own: 8-bit photos, rgb2ycbcr, the border cut off, PSNR and SSIM."""
    expected_psnr, expected_ssim = [], []
    inside = slice(border, -border) if border else slice(None)
    for pair in zip(*photos, strict=True):
        stored = [(p * 127.5 + 127.5).round().astype(np.uint8) for p in pair]
        a, b = (rgb2ycbcr(photo)[inside, inside, 0] for photo in stored)
        expected_psnr.append(peak_signal_noise_ratio(a, b, data_range=255))
        _, full = structural_similarity(
            a, b, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        expected_ssim.append(full[5:-5, 5:-5].mean())
    tensors = [to_tensor(p) for p in photos]
    np.testing.assert_allclose(psnr_y(*tensors, border=border).numpy(), expected_psnr, rtol=1e-9)
    np.testing.assert_allclose(ssim_y(*tensors, border=border).numpy(), expected_ssim, rtol=1e-9)


def test_the_border_does_not_count() -> None:
    image = torch.zeros(1, 3, 32, 32)
    damaged = image.clone()
    damaged[..., :4] = 1.0
    assert torch.isinf(psnr_y(image, damaged, border=4)).all()
    assert torch.isfinite(psnr_y(image, damaged, border=3)).all()
    with pytest.raises(ValueError, match="sides above 32"):
        psnr_y(image, damaged, border=16)


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
