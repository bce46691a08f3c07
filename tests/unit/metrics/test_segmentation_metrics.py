"""IoU against counting with NumPy."""

import math

import numpy as np
import pytest
import torch

from neural_photo_editor.metrics.segmentation import ConfusionMatrix


def test_iou_equals_counting() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, (3, 8, 9))  # class 4 never occurs ...
    predicted = np.where(
        generator.random(labels.shape) < 0.7, labels, 5
    )  # ... and 5 never in labels
    confusion = ConfusionMatrix(7)
    for i in range(3):
        confusion.update(torch.from_numpy(predicted[i]), torch.from_numpy(labels[i]).byte())

    def iou(c: int) -> float:
        union = ((labels == c) | (predicted == c)).sum()
        return float(((labels == c) & (predicted == c)).sum() / union) if union else math.nan

    expected = [iou(c) for c in range(7)]
    np.testing.assert_allclose(confusion.iou().numpy(), expected)
    assert math.isnan(expected[4])
    assert expected[5] == 0
    assert confusion.mean_iou() == pytest.approx(np.mean(expected[:4]))
    assert confusion.pixel_accuracy() == pytest.approx((labels == predicted).mean())


def test_counts_add_up_over_processes() -> None:
    labels = torch.randint(0, 3, (4, 5, 5))
    predicted = torch.randint(0, 3, (4, 5, 5))
    whole, first, second = (ConfusionMatrix(3) for _ in range(3))
    whole.update(predicted, labels)
    first.update(predicted[:1], labels[:1])
    second.update(predicted[1:], labels[1:])
    assert torch.equal(whole.counts, first.counts + second.counts)


def test_rows_are_true_and_columns_predicted() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0]))
    assert confusion.counts.tolist() == [[1, 1], [0, 1]]


def test_empty_is_nan() -> None:
    assert math.isnan(ConfusionMatrix(3).mean_iou())


def test_wrong_inputs_are_refused() -> None:
    confusion = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="argmax"):
        confusion.update(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="labels has ids outside"):
        confusion.update(torch.zeros(2), torch.tensor([0, 255]))
