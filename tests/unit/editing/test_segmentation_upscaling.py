"""Label maps at the photo's own size, and tiles that leave no seam."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.editing.segmentation import segment_photos, summarize_regions
from neural_photo_editor.editing.upscaling import enlarge_square, upscale_in_tiles
from neural_photo_editor.networks.srresnet import SRResNet


def color_segmenter(x: Tensor) -> Tensor:
    """Red is hair (1), green is skin (10), everything else background."""
    red, green, blue = x.unbind(dim=1)
    logits = torch.full((x.shape[0], 11, *x.shape[2:]), -9.0)
    logits[:, 0], logits[:, 1], logits[:, 10] = blue, red, green
    return logits


def _photo(height: int, width: int) -> np.ndarray:
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[..., 2] = 255
    photo[: height // 2, :] = (255, 0, 0)
    photo[height // 2 :, width // 2 :] = (0, 255, 0)
    return photo


def _segment(*photos: np.ndarray) -> list[np.ndarray]:
    return segment_photos(color_segmenter, photos, resolution=64, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (218, 178), (16, 300), (300, 40), (20, 24)]
)
def test_labels_have_the_size_and_place_of_the_photo(height: int, width: int) -> None:
    (labels,) = _segment(_photo(height, width))
    assert labels.shape == (height, width)
    assert labels.dtype == np.uint8
    expected = np.zeros((height, width), dtype=np.uint8)
    expected[: height // 2] = 1
    expected[height // 2 :, width // 2 :] = 10
    # Only pixels at borders may differ, by the width of a model pixel.
    assert (labels != expected).mean() < 0.5 * 4 / 64 * max(height, width) / min(height, width)


def test_a_photo_gets_the_same_labels_alone_and_with_others() -> None:
    photos = [_photo(64, 80), _photo(100, 90), _photo(33, 47)]
    together = _segment(*photos)
    for photo, labels in zip(photos, together, strict=True):
        np.testing.assert_array_equal(_segment(photo)[0], labels)


def test_region_table() -> None:
    labels = np.zeros((10, 20), dtype=np.uint8)
    labels[2:5, 4:10] = 1
    table = summarize_regions(labels)
    assert len(table) == 11
    assert sum(row.pixels for row in table) == 200
    hair = table[1]
    assert (hair.name, hair.pixels, hair.fraction) == ("hair", 18, 0.09)
    assert hair.box == (4, 2, 10, 5)
    assert table[2].pixels == 0
    assert table[2].box is None


def test_tiles_equal_one_call() -> None:
    torch.manual_seed(0)
    network = SRResNet(scale=4, width=8, num_blocks=1).eval()
    torch.nn.init.normal_(network.head.weight, std=0.05)
    low = torch.rand(1, 3, 50, 37) * 2 - 1
    with torch.no_grad():
        whole = network(low).clamp(-1, 1)
        tiled = upscale_in_tiles(network, low, scale=4, tile=16, context=12)
    assert tiled.shape == (1, 3, 200, 148)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)


def _nearest_x4(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=4.0, mode="nearest")


@pytest.mark.parametrize(
    ("side", "expected"), [(40, 64), (64, 64), (65, 256), (256, 256), (900, 1024), (5000, 1024)]
)
def test_squares_are_enlarged_only_as_often_as_needed(side: int, expected: int) -> None:
    square = torch.zeros(1, 3, 64, 64)
    assert enlarge_square(_nearest_x4, square, scale=4, side=side).shape[-1] == expected
