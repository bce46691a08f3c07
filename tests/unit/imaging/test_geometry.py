"""The square of a photo: what it contains, and that cutting out and putting back are inverse."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neural_photo_editor.imaging.geometry import (
    BLOCKS_PER_PIXEL,
    SquareCrop,
    choose_square,
    cut_out,
    cut_out_share,
    put_back,
    resize,
)
from neural_photo_editor.imaging.value_range import photo_to_tensor


def _smooth(height: int, width: int) -> torch.Tensor:
    y = torch.linspace(-1, 1, height).reshape(1, 1, -1, 1).expand(1, 1, height, width)
    x = torch.linspace(-0.8, 0.8, width).reshape(1, 1, 1, -1).expand(1, 1, height, width)
    return torch.cat([y, x, 0.5 * (y + x)], dim=1)


@st.composite
def _squares(draw: st.DrawFn) -> SquareCrop:
    """A square of any side that shows something of a photo of any size, at any place."""
    height, width, side = (draw(st.integers(20, 300)) for _ in range(3))
    top, left = (draw(st.integers(1 - side, length - 1)) for length in (height, width))
    return SquareCrop(top, left, side, height, width)


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


@given(crop=_squares())
def test_the_box_is_what_the_square_shows_of_the_photo(crop: SquareCrop) -> None:
    in_photo = np.zeros((crop.photo_height, crop.photo_width), dtype=bool)
    top, left = max(crop.top, 0), max(crop.left, 0)
    in_photo[top : crop.top + crop.side, left : crop.left + crop.side] = True
    in_box = np.zeros_like(in_photo)
    in_box[crop.box[0] : crop.box[2], crop.box[1] : crop.box[3]] = True
    np.testing.assert_array_equal(in_box, in_photo)
    assert (crop.height, crop.width) == in_photo[in_photo.any(1)][:, in_photo.any(0)].shape


@pytest.mark.parametrize("corner", [(-50, 0), (100, 0), (0, -50), (0, 100)])
def test_squares_beside_the_photo_are_refused(corner: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="beside the photo"):
        SquareCrop(*corner, 50, 100, 100)


@settings(deadline=None, max_examples=50)
@given(crop=_squares(), resolution=st.sampled_from([32, 64, 100]))
def test_visible_pixels_are_the_nearest_to_the_box(crop: SquareCrop, resolution: int) -> None:
    scale = resolution / crop.side
    for low, high, start, first, last in zip(
        crop.box[:2], crop.box[2:], (crop.top, crop.left),
        crop.visible(resolution)[:2], crop.visible(resolution)[2:], strict=True,
    ):  # fmt: skip
        assert 0 <= first < last <= resolution
        assert abs(first - (low - start) * scale) <= 1.0
        assert abs(last - (high - start) * scale) <= 1.0


@settings(deadline=None, max_examples=50)
@given(crop=_squares())
def test_cut_out_and_put_back_are_inverse_for_smooth_photos(crop: SquareCrop) -> None:
    photo = _smooth(crop.photo_height, crop.photo_width)
    top, left, bottom, right = crop.box
    square = cut_out(photo, crop, resolution=256)
    assert square.shape == (1, 3, 256, 256)
    restored = put_back(square, crop)
    assert restored.shape == (1, 3, crop.height, crop.width)
    # A reflected ramp has a kink at the border of the photo, and there alone it is smoothed.
    worst = (restored - photo[..., top:bottom, left:right]).abs().amax()
    slope = 2 / min(crop.photo_height, crop.photo_width)
    assert worst <= slope * max(1.0, crop.side / 256)


@settings(deadline=None, max_examples=30)
@given(crop=_squares(), resolution=st.sampled_from([32, 64]), scale=st.sampled_from([1, 4]))
def test_content_comes_back_at_its_place(crop: SquareCrop, resolution: int, scale: int) -> None:
    """A blob's center of mass moves by less than 1/50 of a model pixel, at any upscaling."""
    top, left, bottom, right = crop.box
    width = 2 * max(crop.side / resolution, 1.0)
    rows, columns = np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5
    assume(min(crop.height, crop.width) > 8 * width)  # The blob would be cut.
    y, x = (top + bottom) / 2 + 0.3, (left + right) / 2 - 0.2
    blob = np.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
    photo = torch.full((1, 1, crop.photo_height, crop.photo_width), -1.0, dtype=torch.float64)
    photo[..., top:bottom, left:right] = torch.from_numpy(2 * blob - 1)
    back = put_back(cut_out(photo, crop, resolution=resolution * scale), crop)[0, 0].numpy()
    weight, before = (back + 1) / 2, blob
    for axis, places in ((1, rows), (0, columns)):
        after = np.average(places, weights=weight.sum(axis))
        assert abs(after - np.average(places, weights=before.sum(axis))) < 0.02 * width / 2


@settings(deadline=None, max_examples=30)
@given(crop=_squares(), size=st.sampled_from([16, 64, 256]), data=st.data())
def test_a_window_is_a_part_of_the_whole(crop: SquareCrop, size: int, data: st.DataObject) -> None:
    square = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    top = data.draw(st.integers(crop.box[0], crop.box[2] - 1))
    left = data.draw(st.integers(crop.box[1], crop.box[3] - 1))
    bottom = data.draw(st.integers(top + 1, crop.box[2]))
    right = data.draw(st.integers(left + 1, crop.box[3]))
    whole, part = put_back(square, crop), put_back(square, crop, (top, left, bottom, right))
    y, x = top - crop.box[0], left - crop.box[1]
    expected = whole[..., y : y + bottom - top, x : x + right - left]
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-5)


def test_windows_outside_the_square_are_refused() -> None:
    crop = SquareCrop(10, 10, 20, 50, 50)
    with pytest.raises(ValueError, match="outside the square's box"):
        put_back(torch.zeros(1, 3, 8, 8), crop, (5, 10, 20, 20))


@pytest.mark.parametrize("resolution", [24, 64, 100, 300])
def test_inside_the_photo_resampling_is_that_of_torch(resolution: int) -> None:
    photo = torch.rand(1, 3, 150, 150, generator=torch.Generator().manual_seed(0)) * 2 - 1
    square = cut_out(photo, SquareCrop(0, 0, 150, 150, 150), resolution=resolution)
    expected = resize(photo, (resolution, resolution))
    inner = slice(max(4, resolution // 20), -max(4, resolution // 20))
    torch.testing.assert_close(
        square[..., inner, inner], expected[..., inner, inner], rtol=0, atol=2e-4
    )


@settings(deadline=None, max_examples=20)
@given(
    crop=_squares(), resolution=st.sampled_from([3, 8, 16])
)  # fmt: skip
def test_eight_bit_photos_give_the_square_of_their_tensor(
    crop: SquareCrop, resolution: int
) -> None:
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 5, 5))) * 1.6 - 0.8
    size = (crop.photo_height, crop.photo_width)
    photo = (resize(coarse, size)[0].permute(1, 2, 0).numpy() * 127.5 + 127.5).astype(np.uint8)
    fast = cut_out(photo, crop, resolution=resolution)
    slow = cut_out(photo_to_tensor(photo), crop, resolution=resolution)
    assert fast.shape == slow.shape
    # The last block may be a partial one: each reflection moves by up to a block.
    block = max(1, crop.side // (resolution * BLOCKS_PER_PIXEL))
    top, left, bottom, right = crop.box
    reflections = -(-crop.side // min(bottom - top, right - left))
    assert (fast - slow).abs().max() <= 0.01 + reflections * (block - 1) * 12 / min(size)


@settings(deadline=None, max_examples=30)
@given(crop=_squares(), resolution=st.sampled_from([16, 64]))
def test_shares_are_areas(crop: SquareCrop, resolution: int) -> None:
    """Against sums over all pixels, one cell of the square at a time."""
    rng = np.random.default_rng(crop.side)
    mask = rng.random((crop.photo_height, crop.photo_width)) < 0.02
    share = cut_out_share(mask, crop, resolution=resolution)[0, 0].numpy()
    assert 0.0 <= share.min() <= share.max() <= 1.0 + 1e-6
    top, left, bottom, right = crop.visible(resolution)
    cell = crop.side / resolution
    for row, column in rng.integers((top, left), (bottom, right), (10, 2)):
        y, x = crop.top + row * cell, crop.left + column * cell
        rows, columns = (
            np.clip(np.minimum(low + cell, np.arange(n) + 1) - np.maximum(low, np.arange(n)), 0, 1)
            for low, n in ((y, crop.photo_height), (x, crop.photo_width))
        )
        inside = rows.sum() * columns.sum() > cell**2 * (1 - 1e-9)
        beyond = crop.box[0] > y + 1e-9 or crop.box[1] > x + 1e-9
        if inside and not beyond:
            expected = rows @ mask @ columns / cell**2
            assert abs(share[row, column] - expected) < 1e-5
            assert (share[row, column] > 0) == (expected > 1e-9)


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
