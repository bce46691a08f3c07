"""Edit transfer against least squares solved one window at a time, and its exact cases."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.imaging import edit_transfer
from neural_photo_editor.imaging.edit_transfer import (
    LUMA,
    RIDGE,
    SMOOTHING_RADIUS,
    color_change,
)
from neural_photo_editor.imaging.geometry import resize


def _image(size: int, *, seed: int = 0) -> Tensor:
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed)) - 0.5


def _luma(image: Tensor) -> Tensor:
    return (image * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _transfer(
    photo: Tensor, *, before: Tensor, after: Tensor, weight: Tensor, radius: int
) -> Tensor:
    change = color_change(before, after, weight=weight, radius=radius)
    return photo + F.interpolate(change, photo.shape[-2:], mode="bilinear")


def test_an_edit_that_changes_nothing_leaves_the_photo_bit_for_bit() -> None:
    photo, small = _image(40), _image(10, seed=1)
    weight = torch.ones(1, 1, 10, 10)
    edited = _transfer(photo, before=small, after=small.clone(), weight=weight, radius=2)
    assert torch.equal(edited, photo)


def test_a_global_affine_change_of_color_arrives_up_to_the_ridge() -> None:
    # Broad shades, which the smoothing before the fit leaves.
    photo = resize(_image(4), (64, 64))
    before = resize(photo, (32, 32))
    gain = torch.tensor([0.5, -0.3, 0.2]).view(1, 3, 1, 1)
    offset = torch.tensor([-0.1, 0.2, 0.05]).view(1, 3, 1, 1)
    after = before + gain * _luma(before) + offset
    weight = torch.ones(1, 1, 32, 32)
    edited = _transfer(photo, before=before, after=after, weight=weight, radius=8)
    expected = photo + gain * _luma(photo) + offset
    assert (edited - expected).abs().max() < 0.05  # The smoothing before the fit, at the ends.
    assert (edited - expected).mean().abs() < 0.002


def test_the_fit_of_a_window_is_weighted_ridge_regression() -> None:
    side, radius = 15, 2
    before, after = _image(side, seed=2), _image(side, seed=3)
    weight = torch.rand((1, 1, side, side), generator=torch.Generator().manual_seed(4))
    w = weight[0, 0].double().numpy()

    def near(row: int, column: int, reach: int) -> tuple[slice, slice]:
        return (
            slice(max(row - reach, 0), row + reach + 1),
            slice(max(column - reach, 0), column + reach + 1),
        )

    def smooth(values: np.ndarray) -> np.ndarray:
        """Weighted means over the neighborhood, one pixel at a time; (H, W, C)."""
        means = np.empty_like(values)
        for row, column in np.ndindex(side, side):
            window = near(row, column, SMOOTHING_RADIUS)
            means[row, column] = np.average(values[window], axis=(0, 1), weights=w[window])
        return means

    luma = smooth(_luma(before)[0].permute(1, 2, 0).double().numpy())
    change = smooth((after - before)[0].permute(1, 2, 0).double().numpy())

    def solve(row: int, column: int) -> np.ndarray:
        """(gain, offset) of each channel from the normal equations, float64."""
        window = near(row, column, radius)
        x, y = luma[window].ravel(), change[window].reshape(-1, 3)
        shares = w[window].ravel() / w[window].sum()
        design = np.stack([x, np.ones_like(x)], axis=1)
        normal = design.T @ (shares[:, None] * design) + np.diag([RIDGE, 0.0])
        return np.linalg.solve(normal, design.T @ (shares[:, None] * y))

    # What a pixel gets is the weighted mean of the fits of the windows that cover it.
    center = side // 2
    covering = range(center - radius, center + radius + 1)
    fits = np.array([[solve(row, column) for column in covering] for row in covering])
    weights = w[near(center, center, radius)]
    expected = np.average(fits, axis=(0, 1), weights=weights)
    found = color_change(before, after, weight=weight, radius=radius)[0, :, center, center]
    wanted = expected[0] * luma[center, center] + expected[1]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)


def test_fine_strands_stay_when_the_small_edit_has_none() -> None:
    stripes = torch.tensor([-0.5, -0.3]).repeat(64).expand(1, 3, 128, 128)
    photo = stripes + torch.linspace(-0.2, 0.2, 128).view(1, 1, 128, 1)
    before = resize(photo, (16, 16))
    after = before + torch.tensor([0.6, 0.3, -0.1]).view(1, 3, 1, 1)
    weight = torch.ones(1, 1, 16, 16)
    edited = _transfer(photo, before=before, after=after, weight=weight, radius=2)
    contrast = (edited[..., 1::2] - edited[..., ::2]).mean()
    assert contrast == pytest.approx(0.2, abs=0.01)
    assert (edited - photo).mean(dim=(0, 2, 3)).tolist() == pytest.approx(
        [0.6, 0.3, -0.1], abs=0.01
    )


def test_pixels_without_weight_have_no_say_and_far_ones_do_not_change() -> None:
    photo = _image(64)
    before = resize(photo, (16, 16))
    after = before + 0.3
    weight = torch.zeros(1, 1, 16, 16)
    weight[..., :4] = 1.0
    after[..., 4:] = 0.9
    edited = _transfer(photo, before=before, after=after, weight=weight, radius=2)
    torch.testing.assert_close(edited[..., :14], photo[..., :14] + 0.3, atol=1e-4, rtol=0)
    assert torch.equal(edited[..., 40:], photo[..., 40:])


def test_means_over_windows_are_those_of_square_pooling() -> None:
    values = torch.rand((1, 3, 20, 31), generator=torch.Generator().manual_seed(5))
    for radius in (1, 4, 9):
        square = F.avg_pool2d(values, 2 * radius + 1, stride=1, padding=radius)
        torch.testing.assert_close(edit_transfer._window_mean(values, radius), square)


@pytest.mark.parametrize("small", [{"after": _image(8)}, {"weight": torch.ones(1, 1, 8, 8)}])
def test_sizes_that_differ_are_refused(small: dict[str, Tensor]) -> None:
    arguments = {"before": _image(9), "after": _image(9), "weight": torch.ones(1, 1, 9, 9)}
    with pytest.raises(ValueError, match="differ in size"):
        _transfer(_image(20), **{**arguments, **small}, radius=2)


def test_a_radius_below_one_is_refused() -> None:
    small = _image(8)
    with pytest.raises(ValueError, match="radius is 0"):
        _transfer(small, before=small, after=small, weight=torch.ones(1, 1, 8, 8), radius=0)
