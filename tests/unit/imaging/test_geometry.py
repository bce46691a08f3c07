"""The square of a photo: what it contains, and that cutting out and putting back are inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_photo_editor.imaging.geometry import choose_square, cut_out, put_back, resize


def _smooth(height: int, width: int) -> torch.Tensor:
    y = torch.linspace(-1, 1, height).reshape(1, 1, -1, 1).expand(1, 1, height, width)
    x = torch.linspace(-0.8, 0.8, width).reshape(1, 1, 1, -1).expand(1, 1, height, width)
    return torch.cat([y, x, 0.5 * (y + x)], dim=1)


def test_square_and_nearly_square_photos_are_used_whole() -> None:
    assert choose_square(64, 64, must_contain=(0, 0, 3, 3)).box == (0, 0, 64, 64)
    crop = choose_square(100, 110, must_contain=(40, 40, 50, 50))
    assert crop.box == (0, 0, 100, 110)
    assert crop.side == 110


def test_a_mask_near_the_center_gets_the_central_square() -> None:
    crop = choose_square(218, 178, must_contain=(60, 40, 120, 120))
    assert crop.box == (20, 0, 198, 178)
    assert crop.side == 178


def test_the_square_moves_to_the_mask_with_a_margin() -> None:
    assert choose_square(400, 160, must_contain=(10, 0, 60, 160)).box == (0, 0, 160, 160)
    assert choose_square(400, 160, must_contain=(300, 0, 350, 160)).box == (200, 0, 360, 160)


def test_a_mask_longer_than_the_short_side_gets_the_whole_photo() -> None:
    crop = choose_square(400, 160, must_contain=(10, 0, 171, 20))
    assert crop.box == (0, 0, 400, 160)
    assert crop.side == 400
    assert crop.visible(100) == (0, 30, 100, 70)


@given(
    height=st.integers(16, 900), width=st.integers(16, 900), corners=st.lists(
        st.floats(0, 1), min_size=4, max_size=4
    ), resolution=st.sampled_from([16, 64, 100]),
)  # fmt: skip
def test_every_mask_is_contained(
    height: int, width: int, corners: list[float], resolution: int
) -> None:
    top, bottom = sorted(int(c * (height - 1)) for c in corners[:2])
    left, right = sorted(int(c * (width - 1)) for c in corners[2:])
    crop = choose_square(height, width, must_contain=(top, left, bottom + 1, right + 1))
    shown = crop.box
    assert 0 <= shown[0] <= top
    assert 0 <= shown[1] <= left
    assert bottom < shown[2] <= height
    assert right < shown[3] <= width
    assert crop.side in (min(height, width), max(height, width))
    box = crop.visible(resolution)
    assert 0 <= box[0] < box[2] <= resolution
    assert 0 <= box[1] < box[3] <= resolution


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (0, 0, 5, 65), (-1, 0, 5, 5)])
def test_impossible_boxes_are_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="empty or outside"):
        choose_square(64, 64, must_contain=box)


@settings(deadline=None, max_examples=30)
@given(height=st.integers(16, 200), width=st.integers(16, 200))
def test_cut_out_and_put_back_are_inverse_for_smooth_photos(height: int, width: int) -> None:
    photo = _smooth(height, width)
    crop = choose_square(height, width, must_contain=(0, 0, height, width))
    square = cut_out(photo, crop, resolution=256)
    assert square.shape == (1, 3, 256, 256)
    restored = put_back(square, crop)
    assert restored.shape == photo.shape
    assert (restored - photo).abs().mean() < 0.02


def test_equal_sizes_pass_through_unchanged() -> None:
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    crop = choose_square(64, 64)
    assert torch.equal(cut_out(photo, crop, resolution=64), photo)
    assert torch.equal(put_back(photo, crop), photo)


@pytest.mark.parametrize(("height", "width"), [(16, 900), (900, 16), (16, 16), (1, 40)])
def test_elongated_and_tiny_photos(height: int, width: int) -> None:
    photo = _smooth(height, width)
    crop = choose_square(height, width, must_contain=(0, 0, height, width))
    square = cut_out(photo, crop, resolution=64)
    assert square.shape == (1, 3, 64, 64)
    assert torch.isfinite(square).all()
    assert put_back(square, crop).shape == photo.shape


def test_the_padding_mirrors_the_photo() -> None:
    photo = _smooth(32, 64)
    square = cut_out(photo, choose_square(32, 64, must_contain=(0, 0, 32, 64)), resolution=64)
    np.testing.assert_array_equal(square[0, :, 15], square[0, :, 17])
    np.testing.assert_array_equal(square[0, :, 16:48], photo[0])
    np.testing.assert_array_equal(square[0, :, 48], square[0, :, 46])


def test_resizing_keeps_the_range() -> None:
    edge = torch.cat([torch.full((1, 3, 8, 8), -1.0), torch.ones(1, 3, 8, 8)], dim=3)
    assert resize(edge, (32, 64)).abs().max() <= 1.0
