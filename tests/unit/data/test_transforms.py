import numpy as np
import pytest

from neural_photo_editor.data.transforms import (
    center_square,
    copy_planes,
    crop,
    crop_to_square,
    resize_labels,
    resize_photo,
)


@pytest.mark.parametrize(("height", "width"), [(6, 10), (10, 6), (7, 7), (5, 8)])
def test_center_square_leaves_equal_margins(height: int, width: int) -> None:
    image = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    square = center_square(image)
    size = min(height, width)
    assert square.shape == (size, size)
    top, left = np.argwhere(image == square[0, 0])[0]
    assert abs((height - size - top) - top) <= 1
    assert abs((width - size - left) - left) <= 1


def test_shrinking_a_photo_averages_instead_of_picking_pixels() -> None:
    checkerboard = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    photo = np.repeat(checkerboard[..., None], 3, axis=2).astype(np.uint8)
    small = resize_photo(photo, size=16)
    assert small.shape == (16, 16, 3)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_resizing_labels_makes_no_new_ids() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 4, 10], dtype=np.uint8), (30, 20))
    for width, height in [(7, 9), (40, 61), (20, 30)]:
        resized = resize_labels(labels, width=width, height=height)
        assert resized.shape == (height, width)
        assert set(np.unique(resized)) <= {0, 4, 10}


def test_photo_and_labels_stay_aligned() -> None:
    labels = np.zeros((48, 80), dtype=np.uint8)
    labels[12:36, 20:60] = 10
    photo = np.repeat(labels[..., None] * np.uint8(20), 3, axis=2)
    small_photo, small_labels = crop_to_square(photo, labels, size=24)
    assert small_labels is not None
    np.testing.assert_array_equal(small_photo[..., 0] > 100, small_labels == 10)


@pytest.mark.parametrize("step", [1, -1])
def test_planes_of_rgbx_are_those_of_rgb(step: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 4), dtype=np.uint8)
    for photo in (pixels, np.ascontiguousarray(pixels[..., :3])):
        window = crop(photo, top=1, left=2, size=5)[:, ::step]
        planes = np.zeros((3, 5, 5), dtype=np.uint8)
        copy_planes(window, planes)
        np.testing.assert_array_equal(planes, pixels[1:6, 2:7, :3][:, ::step].transpose(2, 0, 1))


def test_resizing_drops_the_fourth_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    rgb = np.ascontiguousarray(pixels[..., :3])
    np.testing.assert_array_equal(resize_photo(pixels, size=4), resize_photo(rgb, size=4))
    assert resize_photo(pixels, size=8) is pixels
