"""Label maps at the photo's own size, and tiles that leave no seam."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.editing import segmentation
from neural_photo_editor.editing.segmentation import (
    LabelMap,
    MirrorAveraged,
    PhotoSegmenter,
    label_map,
    region_mask,
    region_pixels,
    summarize_regions,
    whole_square,
)
from neural_photo_editor.editing.upscaling import context_of, enlarge_square, upscale_in_tiles
from neural_photo_editor.imaging.geometry import SquareCrop, choose_square
from neural_photo_editor.imaging.value_range import photo_to_tensor, tensor_to_photo
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet
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


def _segment(photo: np.ndarray, square: SquareCrop | None = None) -> LabelMap:
    square = square or whole_square(*photo.shape[:2])
    look = PhotoSegmenter(color_segmenter, 64, torch.device("cpu"))
    return label_map(look(photo, [square])[0].numpy(), square)


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (218, 178), (16, 300), (300, 40), (20, 24)]
)
def test_labels_have_the_size_and_place_of_the_photo(height: int, width: int) -> None:
    labels = _segment(_photo(height, width))
    assert labels.shape == (height, width)
    assert labels.dtype == np.uint8
    expected = np.zeros((height, width), dtype=np.uint8)
    expected[: height // 2] = 1
    expected[height // 2 :, width // 2 :] = 10
    # Only pixels at borders may differ, by the width of a model pixel.
    assert (labels != expected).mean() < 0.5 * 4 / 64 * max(height, width) / min(height, width)


def test_squares_are_looked_at_together_as_alone() -> None:
    look, photo = PhotoSegmenter(color_segmenter, 64, torch.device("cpu")), _photo(90, 100)
    squares = [whole_square(90, 100), SquareCrop(-5, 10, 40, 90, 100)]
    together = look(photo, squares)
    assert together.shape == (2, 11, 64, 64)
    for square, logits in zip(squares, together, strict=True):
        torch.testing.assert_close(look(photo, [square])[0], logits)


@pytest.mark.parametrize("corner", [(20, 30), (-17, 60), (70, -9)])
def test_a_square_beyond_the_photo_is_labeled_where_it_shows_it(corner: tuple[int, int]) -> None:
    photo = _photo(96, 110)
    square = SquareCrop(*corner, 64, 96, 110)
    top, left, bottom, right = square.box
    # Every pixel of the photo is one of the square: its labels are those of the colors.
    expected = np.where(photo[..., 0] > 0, 1, np.where(photo[..., 1] > 0, 10, 0))
    np.testing.assert_array_equal(_segment(photo, square), expected[top:bottom, left:right])


def _enlarged(logits: np.ndarray, crop: SquareCrop) -> np.ndarray:
    """All logits at the photo's size, float64: bilinear interpolation with every pixel computed."""
    side, resolution = crop.side, logits.shape[-1]
    low, share = [], []
    for start, length in ((crop.top, crop.photo_height), (crop.left, crop.photo_width)):
        position = ((np.arange(length) - start + 0.5) * resolution / side - 0.5).clip(
            0, resolution - 1
        )
        low.append(np.minimum(position.astype(int), resolution - 2))
        share.append(position - low[-1])
    (y, x), (v, u) = low, share
    v, u = v[:, None], u[None]
    logits = logits.astype(np.float64)
    upper = (1 - u) * logits[:, y][:, :, x] + u * logits[:, y][:, :, x + 1]
    lower = (1 - u) * logits[:, y + 1][:, :, x] + u * logits[:, y + 1][:, :, x + 1]
    return (1 - v) * upper + v * lower


@settings(deadline=None, max_examples=50)
@given(
    height=st.integers(16, 160), width=st.integers(16, 160), resolution=st.integers(2, 40),
    levels=st.sampled_from([2, 5, 0]), smooth=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_label_maps_equal_those_with_every_logit_enlarged(
    height: int, width: int, resolution: int, levels: int, smooth: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (11, resolution, resolution)).astype(np.float32)
    if levels:  # Many equal corners, and cells in which three regions meet.
        logits = np.rint(logits / 6 * levels).astype(np.float32)
    if smooth:
        logits = np.repeat(np.repeat(logits, 6, axis=1), 6, axis=2)[:, :resolution, :resolution]
    crop = choose_square(height, width, must_contain=(0, 0, height, width))
    labels = label_map(logits, crop)
    enlarged = _enlarged(logits, crop)
    first, second = np.sort(enlarged, axis=0)[:-3:-1]
    clear = first - second > 1e-4
    np.testing.assert_array_equal(labels[clear], enlarged.argmax(axis=0)[clear])
    # Elsewhere two regions are equal but for rounding; either is right.
    chosen = np.take_along_axis(enlarged, labels[None].astype(int), axis=0)[0]
    assert (first - chosen).max() < 1e-4


def test_label_maps_equal_torchs_interpolation() -> None:
    logits = np.random.default_rng(5).normal(0, 3, (11, 16, 16)).astype(np.float32)
    crop = choose_square(96, 160, must_contain=(0, 0, 96, 160))
    enlarged = F.interpolate(torch.from_numpy(logits)[None], size=(160, 160), mode="bilinear")
    expected = enlarged[0, :, 32:128].argmax(dim=0).numpy()
    assert (label_map(logits, crop) != expected).mean() < 1e-3


def test_cells_are_left_out_only_where_all_corners_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(6).normal(0, 1, (11, 8, 8)).astype(np.float32)
    logits[3, :, :5] += 9
    crop = choose_square(200, 180, must_contain=(0, 0, 200, 180))
    fast = label_map(logits, crop)
    monkeypatch.setattr(segmentation, "_ROUNDING", 1e9)  # No lead is large enough.
    np.testing.assert_array_equal(label_map(logits, crop), fast)
    equal = label_map(np.zeros((11, 8, 8), np.float32), crop)
    assert (equal == 0).all()


def test_region_masks_and_counts() -> None:
    labels = np.array([[0, 1, 1], [10, 10, 10]], dtype=np.uint8)
    np.testing.assert_array_equal(region_mask(labels, ["hair", "skin"]), labels > 0)
    assert not region_mask(labels, ["hat"]).any()
    counts = region_pixels(labels)
    assert (counts["background"], counts["hair"], counts["skin"], counts["hat"]) == (1, 2, 3, 0)
    assert sum(counts.values()) == 6


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


@pytest.mark.parametrize(
    ("scale", "num_blocks", "outer_kernel", "size"),
    [(4, 3, 9, (70, 53)), (2, 1, 3, (50, 37)), (8, 2, 5, (40, 25))],
)
def test_tiles_equal_one_call(
    scale: int, num_blocks: int, outer_kernel: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = SRResNet(scale=scale, width=4, num_blocks=num_blocks, outer_kernel=outer_kernel)
    torch.nn.init.normal_(network.head.weight, std=0.1)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    context = context_of(network)
    with torch.no_grad():
        whole = tensor_to_photo(network(photo_to_tensor(photo)))
        tiled = upscale_in_tiles(network, photo, scale=scale, tile=16, context=context)
        narrow = upscale_in_tiles(network, photo, scale=scale, tile=16, context=0)
    assert tiled.shape == (size[0] * scale, size[1] * scale, 3)
    np.testing.assert_allclose(tiled.astype(int), whole, atol=1)
    assert (tiled != whole).mean() < 0.001
    assert np.abs(narrow.astype(int) - whole).max() > 10


@pytest.mark.parametrize(
    ("scale", "num_blocks", "outer_kernel"), [(4, 16, 9), (4, 8, 3), (2, 2, 9), (8, 1, 5)]
)
def test_the_context_is_how_far_the_network_looks(
    scale: int, num_blocks: int, outer_kernel: int
) -> None:
    """With positive weights every pixel that can count does: its gradient is not zero."""
    network = SRResNet(scale=scale, width=1, num_blocks=num_blocks, outer_kernel=outer_kernel)
    for name, parameter in network.double().named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 0.2)
    context = context_of(network)
    middle = context + 3
    row = torch.ones(1, 3, 1, 2 * middle + 1, dtype=torch.float64, requires_grad=True)
    cell = network(row)[0, :, :, middle * scale : (middle + 1) * scale]
    (gradient,) = torch.autograd.grad(cell.sum(), row)
    seen = gradient[0, 0, 0].nonzero().flatten() - middle
    assert (int(seen.min()), int(seen.max())) == (-context, context)


def _nearest_x4(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=4.0, mode="nearest")


@pytest.mark.parametrize(
    ("side", "expected"), [(40, 64), (64, 64), (65, 256), (256, 256), (900, 1024), (5000, 1024)]
)
def test_squares_are_enlarged_only_as_often_as_needed(side: int, expected: int) -> None:
    square = torch.zeros(1, 3, 64, 64)
    assert enlarge_square(_nearest_x4, square, scale=4, side=side).shape[-1] == expected


def test_mirror_averaged_logits_are_symmetric_and_the_mean_of_both() -> None:
    network = SegmentationUNet(widths=(8, 16), blocks_per_level=1).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = MirrorAveraged(network)(x)
        torch.testing.assert_close(MirrorAveraged(network)(x.flip(3)), logits.flip(3))
        expected = torch.stack((network(x), network(x.flip(3)).flip(3))).mean(0)
        torch.testing.assert_close(logits, expected)
        assert not torch.allclose(network(x.flip(3)), network(x).flip(3))


def test_mirror_averaging_outlives_a_network_that_returns_the_same_memory_again() -> None:
    class Recycling(torch.nn.Module):  # As a CUDA graph does.
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network, self.memory = network, torch.zeros(2, 11, 16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.memory.copy_(self.network(x))

    network = SegmentationUNet(widths=(8, 16), blocks_per_level=1).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(MirrorAveraged(Recycling(network))(x), MirrorAveraged(network)(x))
