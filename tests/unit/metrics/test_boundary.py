"""Boundary F1 against loops over every pair of pixels."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from neural_photo_editor.data.synthetic_portraits import generate_portrait
from neural_photo_editor.metrics.boundary import BoundaryF1, boundary_pixels, widen

Labels = NDArray[np.int64]


def boundary_by_hand(labels: Labels, region: int) -> list[tuple[int, int]]:
    height, width = labels.shape
    points = []
    for y, x in np.argwhere(labels == region).tolist():
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
        if any(labels[place] != region for place in inside):
            points.append((y, x))
    return points


def f1_by_hand(predicted: Labels, labels: Labels, region: int, radius_px: float) -> float:
    found, true = boundary_by_hand(predicted, region), boundary_by_hand(labels, region)
    if not found and not true:
        return math.nan
    if not found or not true:
        return 0.0

    def near(points: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        return sum(
            any(math.dist(point, other) <= radius_px for other in others) for point in points
        ) / len(points)

    precision, recall = near(found, true), near(true, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(seed: int, *, side: int, classes: int) -> Labels:
    """Regions with crooked borders: where the nearest of random points belongs."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, side, (2 * classes, 2))
    pixels = np.stack(np.mgrid[:side, :side], axis=-1)[:, :, None]
    nearest = np.linalg.norm(pixels - points, axis=-1).argmin(axis=-1)
    labels: Labels = nearest % classes
    return labels


@pytest.mark.parametrize("tolerance", [0.0, 0.0075, 0.05, 0.08])
def test_it_is_that_of_loops_over_pixels(tolerance: float) -> None:
    side, classes = 24, 5
    radius_px = math.ceil(tolerance * math.hypot(side, side))
    pairs = [(blobs(2 * i, side=side, classes=4), blobs(2 * i + 1, side=side, classes=4))
             for i in range(3)]  # fmt: skip
    pairs.append((np.roll(pairs[0][0], 1, axis=1), pairs[0][0]))
    pairs.append((np.zeros((side, side), int), pairs[0][0]))  # a region found nowhere
    score = BoundaryF1(classes, tolerance=tolerance)
    for predicted, labels in pairs:
        score.update(torch.from_numpy(predicted)[None], torch.from_numpy(labels)[None])
    by_hand = np.array([[f1_by_hand(p, t, c, radius_px) for c in range(classes)] for p, t in pairs])
    expected = np.nanmean(by_hand[:, :4], axis=0)
    np.testing.assert_allclose(score.per_class()[:4], expected)
    assert score.per_class()[4].isnan()  # A class that is nowhere has no boundary.
    assert score.mean() == pytest.approx(expected.mean())
    assert 0.0 < score.mean() < 1.0


def test_a_batch_is_the_sum_of_its_images_and_of_processes() -> None:
    labels = torch.stack([torch.from_numpy(blobs(i, side=20, classes=3)) for i in range(4)])
    predicted = labels.roll(2, dims=2)
    whole, first, second = (BoundaryF1(3) for _ in range(3))
    whole.update(predicted, labels)
    first.update(predicted[:1], labels[:1])
    second.update(predicted[1:], labels[1:])
    torch.testing.assert_close(whole.totals, first.totals + second.totals)
    assert whole.totals[1].tolist() == [4, 4, 4]


def test_truth_scores_one_and_a_shift_is_forgiven_up_to_the_tolerance() -> None:
    labels = torch.from_numpy(generate_portrait(0, 3, resolution=64).labels).long()[None]

    def mean(predicted: torch.Tensor, tolerance: float = 0.0075) -> float:
        score = BoundaryF1(11, tolerance=tolerance)
        score.update(predicted, labels)
        return score.mean()

    assert mean(labels) == 1.0
    shifted = labels.roll(2, dims=2)
    assert mean(shifted, tolerance=2 / 90.6) > 0.97  # 64 x 64 has a diagonal of 90.5 pixels.
    assert mean(shifted) < 0.9
    assert mean(labels.roll(8, dims=2)) < mean(labels.roll(4, dims=2)) < mean(shifted)


def test_widening_is_the_distance_transform() -> None:
    masks = torch.rand(2, 3, 17, 21, generator=torch.Generator().manual_seed(0)) > 0.97
    bits = (masks.long() << torch.arange(3)[:, None, None]).sum(1)
    for radius_px in (0, 1, 2, 3, 5):
        widened = widen(bits, radius_px)
        for image, mask in enumerate(masks):
            for region in range(3):
                distance = distance_transform_edt(~mask[region].numpy())
                expected = (distance <= radius_px) & mask[region].any().item()
                np.testing.assert_array_equal((widened[image] >> region & 1).bool(), expected)


def test_the_border_of_the_image_is_no_boundary() -> None:
    assert not boundary_pixels(torch.ones(1, 5, 5, dtype=torch.long)).any()
    empty = BoundaryF1(2)
    assert math.isnan(empty.mean())
    empty.update(torch.ones(1, 5, 5, dtype=torch.long), torch.ones(1, 5, 5, dtype=torch.long))
    assert math.isnan(empty.mean())
