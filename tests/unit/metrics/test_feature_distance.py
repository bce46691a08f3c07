"""Distances between sets of features against scipy, plain loops and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor, nn

from neural_photo_editor.metrics.feature_distance import (
    frechet_distance,
    kernel_distance,
    pool_features,
    segmenter_features,
)
from neural_photo_editor.metrics.inception_features import inception_features
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet


def correlated(seed: int, count: int, dims: int, *, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dims, dims, generator=generator, dtype=torch.float64)
    return torch.randn(count, dims, generator=generator, dtype=torch.float64) @ mixing + shift


@pytest.mark.parametrize("dims", [1, 3, 12])
def test_frechet_distance_agrees_with_a_matrix_root_of_scipy(dims: int) -> None:
    a, b = correlated(0, 60, dims), correlated(1, 40, dims, shift=0.3)
    cov_a, cov_b = (np.atleast_2d(np.cov(x.numpy(), rowvar=False)) for x in (a, b))
    gap = (a.mean(0) - b.mean(0)).numpy()
    expected = gap @ gap + np.trace(cov_a + cov_b - 2.0 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_a_shift_and_a_scale_is_known() -> None:
    a = correlated(2, 50, 4)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    assert frechet_distance(a, a + shift) == pytest.approx(float(shift @ shift), rel=1e-9)
    # Covariances S and 4 S: tr(S + 4 S - 2 * 2 S) = tr S, and the mean's own length.
    mean = a.mean(0)
    expected = float(mean @ mean + torch.cov(a.T).trace())
    assert frechet_distance(a, 2.0 * a) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_stands_degenerate_features() -> None:
    a, b = correlated(3, 30, 3), correlated(4, 30, 3)
    dead = torch.zeros(30, 2, dtype=torch.float64)  # Channels that a ReLU never lets through.
    expected = frechet_distance(a, b)
    with_dead = frechet_distance(torch.cat([a, dead], 1), torch.cat([b, dead], 1))
    assert with_dead == pytest.approx(expected, rel=1e-6)


@given(seed=st.integers(0, 1000), n_1=st.integers(2, 7), n_2=st.integers(2, 7))
@settings(max_examples=30)
def test_kernel_distance_agrees_with_loops(seed: int, n_1: int, n_2: int) -> None:
    a, b = correlated(seed, n_1, 3), correlated(seed + 1, n_2, 3)

    def k(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 3 + 1.0) ** 3

    within_a = sum(k(a[i], a[j]) for i in range(n_1) for j in range(n_1) if i != j)
    within_b = sum(k(b[i], b[j]) for i in range(n_2) for j in range(n_2) if i != j)
    between = sum(k(x, y) for x in a for y in b)
    expected = within_a / (n_1 * (n_1 - 1)) + within_b / (n_2 * (n_2 - 1))
    expected -= 2.0 * between / (n_1 * n_2)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_kernel_distance_of_one_distribution_is_zero_on_average() -> None:
    generator = torch.Generator().manual_seed(5)
    draws = [torch.randn(2, 20, 4, generator=generator) for _ in range(300)]
    distances = np.array([kernel_distance(a, b) for a, b in draws])
    assert abs(distances.mean()) < 4.0 * distances.std() / np.sqrt(len(distances))
    assert (distances < 0).any()


def test_too_few_samples_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        frechet_distance(torch.zeros(5, 5), torch.zeros(9, 5))
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(torch.zeros(1, 5), torch.zeros(9, 5))
    with pytest.raises(ValueError, match="N_1, D"):
        kernel_distance(torch.zeros(4, 5), torch.zeros(4, 6))


def test_segmenter_features_are_what_its_last_layer_reads() -> None:
    torch.manual_seed(0)
    segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1).eval()
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    features = segmenter_features(segmenter)(images)
    assert features.shape == (3, 16)
    # The head is linear, so its mean over the pixels follows from the mean of the features.
    with torch.no_grad():
        logits = segmenter(images).mean((2, 3)).double()
    weight, bias = segmenter.head.weight[..., 0, 0].double(), segmenter.head.bias
    assert bias is not None
    torch.testing.assert_close(
        features[:, :8] @ weight.T + bias.double(), logits, atol=1e-5, rtol=0
    )
    assert not segmenter.head._forward_pre_hooks
    mirrored = segmenter_features(segmenter)(images[:1].expand(2, -1, -1, -1))
    torch.testing.assert_close(mirrored[0], features[0], atol=1e-5, rtol=0)


def test_features_are_computed_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[bool] = []

    def note(*_: object) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)

    segmenter = SegmentationUNet(widths=(8, 16), blocks_per_level=1).eval()
    inception = nn.AdaptiveAvgPool2d(1)  # In its place, any network does.
    for network, features in (
        (segmenter, segmenter_features(segmenter)),
        (inception, inception_features(inception)),  # type: ignore[arg-type]
    ):
        network.register_forward_pre_hook(note)
        features(torch.zeros(1, 3, 16, 16))
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32  # As it was.


def test_pooling_inside_a_mask_is_pooling_of_its_pixels() -> None:
    maps = torch.randn(2, 5, 8, 6, dtype=torch.float64)
    mask = torch.rand(2, 1, 8, 6) < 0.4
    pooled = pool_features(maps, mask=mask)
    for i in range(2):
        pixels = maps[i][:, mask[i, 0]]
        expected = torch.cat([pixels.mean(1), pixels.std(1, correction=0)])
        torch.testing.assert_close(pooled[i], expected)
    torch.testing.assert_close(pool_features(maps), pool_features(maps, mask=mask | ~mask))
    with pytest.raises(ValueError, match="empty"):
        pool_features(maps, mask=torch.zeros_like(mask))
