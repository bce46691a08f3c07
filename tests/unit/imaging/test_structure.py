"""Changes of structure: none in recolored images, all in new texture, steps that are smooth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from neural_photo_editor.imaging.edit_transfer import LUMA
from neural_photo_editor.imaging.geometry import resize
from neural_photo_editor.imaging.structure import ALL, NOISE, NONE, RADIUS, SIGMA, structure_change

SIDE = 40


def _texture(seed: int, *, contrast: float = 0.2) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return contrast * torch.randn((1, 3, SIDE, SIDE), generator=chance).clamp(-2, 2)


def _gray(texture: Tensor) -> Tensor:
    return texture.mean(dim=1, keepdim=True).expand(1, 3, SIDE, SIDE)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    contrast=st.floats(0.01, 0.4),
    entries=st.lists(st.floats(-1, 1), min_size=12, max_size=12),
)
def test_an_affine_change_of_colors_is_no_change_of_structure(
    seed: int, contrast: float, entries: list[float]
) -> None:
    before = _texture(seed, contrast=contrast)
    matrix, offset = torch.tensor(entries[:9]).reshape(3, 3), torch.tensor(entries[9:])
    after = torch.einsum("ij,njhw->nihw", matrix, before) + offset.reshape(1, 3, 1, 1)
    assert structure_change(before, after).max() < 0.01


def test_a_change_of_color_that_varies_slowly_is_none() -> None:
    before = _gray(_texture(0))
    gain = resize(torch.tensor([[[[1.2, 0.8], [0.6, 1.0]]]]) - 1, (SIDE, SIDE)) + 1
    assert structure_change(before, gain * before + 0.3 * gain).max() < 0.1


def test_new_texture_on_a_flat_place_counts_in_full() -> None:
    flat = torch.full((1, 3, SIDE, SIDE), 0.2)
    assert structure_change(flat, flat + _texture(1)).min() > 0.9


def test_other_texture_counts_nearly_in_full() -> None:
    assert structure_change(_gray(_texture(1)), _gray(_texture(2))).mean() > 0.9


def test_flat_stays_flat_and_what_is_lost_is_not_new() -> None:
    flat = torch.zeros(1, 3, SIDE, SIDE)
    assert structure_change(flat, flat + 0.5).max() == 0
    assert structure_change(_texture(3), flat).max() == 0
    # Noise of two gray levels.
    assert structure_change(flat, flat + _texture(3, contrast=2 / 127.5)).max() < 0.05


def test_the_change_is_where_the_new_texture_is_and_fades_smoothly() -> None:
    before = _gray(_texture(4))
    after = before.clone()
    after[..., 20:] = _gray(_texture(5))[..., 20:]
    change = structure_change(before, after)[0, 0]
    assert change[:, : 20 - RADIUS].max() < 0.01
    assert change[:, 20 + RADIUS :].mean() > 0.9
    means = change.mean(dim=0)
    assert (means.diff()[15:24] > -0.05).all()
    assert means.diff().abs().max() < 0.5


def test_more_of_the_new_texture_never_means_less_change() -> None:
    before, drawn = _gray(_texture(6)), _gray(_texture(7))
    shares = [structure_change(before, torch.lerp(before, drawn, w / 8)).mean() for w in range(9)]
    assert shares == sorted(shares)
    assert shares[0] == 0


def test_a_pixel_has_what_ridge_regression_in_its_window_leaves_over() -> None:
    before, drawn = _texture(8), _texture(9)
    after = 0.6 * before + 0.4 * drawn
    colors = before[0].permute(1, 2, 0).double().numpy()
    luma = after[0].permute(1, 2, 0).double().numpy() @ np.array(LUMA)
    found = structure_change(before, after)[0, 0].numpy()
    offsets = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * SIGMA**2)).ravel()
    weights /= weights.sum()
    for row, column in np.random.default_rng(0).integers(RADIUS, SIDE - RADIUS, (30, 2)):
        window = np.s_[row - RADIUS : row + RADIUS + 1, column - RADIUS : column + RADIUS + 1]
        x, y = colors[window].reshape(-1, 3), luma[window].ravel()
        x, y = x - weights @ x, y - weights @ y
        gain = np.linalg.solve((weights * x.T) @ x + NOISE * np.eye(3), (weights * x.T) @ y)
        # What the ridge takes from the gain counts as left over, too.
        left = weights @ (y - x @ gain) ** 2 + NOISE * gain @ gain
        position = np.clip((left / (weights @ y**2 + NOISE) - NONE) / (ALL - NONE), 0, 1)
        assert found[row, column] == pytest.approx(position**2 * (3 - 2 * position), abs=1e-4)


def test_gray_images_without_noise_have_one_minus_the_squared_correlation() -> None:
    before, drawn = _gray(_texture(8, contrast=0.9)), _gray(_texture(9, contrast=0.9))
    after = 0.7 * before + 0.5 * drawn
    old, new = (image[0, 0].double().numpy() for image in (before, after))

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, SIGMA, radius=RADIUS, mode="nearest")

    covariance = mean(old * new) - mean(old) * mean(new)
    spreads = [mean(image * image) - mean(image) ** 2 for image in (old, new)]
    position = np.clip((1 - covariance**2 / np.prod(spreads, axis=0) - NONE) / (ALL - NONE), 0, 1)
    found = structure_change(before, after)[0, 0].numpy()
    np.testing.assert_allclose(found, position**2 * (3 - 2 * position), atol=0.03)


def test_luma_decides_and_the_result_is_float32_in_0_to_1() -> None:
    flat = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64)
    red = torch.tensor([LUMA[1], -LUMA[0], 0.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    chroma = flat + red * _texture(1)[:, :1].double()
    change = structure_change(flat, chroma)
    assert change.dtype == torch.float32
    assert change.shape == (1, 1, SIDE, SIDE)
    assert change.max() == 0


def test_different_sizes_are_refused() -> None:
    image = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="differ in size"):
        structure_change(image, image[..., :4])
