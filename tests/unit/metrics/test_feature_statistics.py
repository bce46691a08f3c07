"""Streamed means and covariances against torch's, torchmetrics' distances and a closed form."""

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from neural_photo_editor.metrics.feature_distance import (
    frechet_distance,
    frechet_distance_of,
    kernel_distance,
)
from neural_photo_editor.metrics.feature_statistics import FeatureStatistics


def correlated(seed: int, count: int, dims: int, *, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dims, dims, generator=generator, dtype=torch.float64)
    return torch.randn(count, dims, generator=generator, dtype=torch.float64) @ mixing + mean


def statistics_of(features: Tensor, *, batch_size: int = 7) -> FeatureStatistics:
    statistics = FeatureStatistics(features.shape[1])
    for batch in features.split(batch_size):
        statistics.add(batch)
    return statistics


def test_streamed_statistics_are_those_of_all_features() -> None:
    features = correlated(0, 50, 6, mean=3.0)
    statistics = statistics_of(features)
    assert statistics.count == 50
    torch.testing.assert_close(statistics.mean, features.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(statistics.covariance, torch.cov(features.T), rtol=1e-10, atol=1e-12)
    # The mean a hundred deviations off costs four digits.
    far = statistics_of(correlated(0, 50, 6, mean=300.0))
    torch.testing.assert_close(far.covariance, statistics.covariance, rtol=1e-9, atol=1e-9)


def test_processes_together_see_what_one_sees() -> None:
    features = correlated(1, 41, 5)
    first, second = statistics_of(features[:30]), statistics_of(features[30:])
    sent: list[Tensor] = []
    second.reduced(lambda vector: sent.append(vector) or vector)
    both = first.reduced(lambda vector: vector + sent[0])
    assert both.count == 41
    torch.testing.assert_close(both.covariance, torch.cov(features.T), rtol=1e-10, atol=1e-12)
    assert first.count == 30  # What was measured here stays.


def test_the_distance_of_known_gaussians() -> None:
    """|m_1 - m_2|^2 + sum of (s_1 - s_2)^2, for independent features."""
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(2, 200_000, 3, generator=generator, dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0, -2.0], [0.5, 1.0, 1.0]], dtype=torch.float64)
    deviations = torch.tensor([[1.0, 2.0, 0.5], [3.0, 2.0, 1.5]], dtype=torch.float64)
    first, second = (
        statistics_of(x, batch_size=4096) for x in means[:, None] + draws * deviations[:, None]
    )
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance_of(first, second) == pytest.approx(float(expected), rel=0.01)


def test_distances_are_those_of_torchmetrics() -> None:
    class Pixels(nn.Module):
        """Images of 4 pixels of 3 colors are their own 12 features."""

        num_features = 12

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1).double() / 255.0

    generator = torch.Generator().manual_seed(3)
    real = torch.randint(0, 200, (60, 3, 2, 2), generator=generator, dtype=torch.uint8)
    fake = torch.randint(20, 256, (40, 3, 2, 2), generator=generator, dtype=torch.uint8)
    network = Pixels()
    theirs = FrechetInceptionDistance(feature=network, input_img_size=(3, 2, 2)).set_dtype(
        torch.float64
    )
    kernel = KernelInceptionDistance(feature=network, subsets=1, subset_size=40)
    for images, is_real in ((real, True), (fake, False)):
        theirs.update(images, real=is_real)
        kernel.update(images[:40], real=is_real)
    ours = frechet_distance(network(fake), network(real))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-5)
    mean, _ = kernel.compute()
    assert kernel_distance(network(fake), network(real[:40])) == pytest.approx(
        float(mean), rel=1e-4
    )


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="1 samples have no covariance"):
        _ = statistics_of(torch.ones(1, 3)).covariance
