"""IoU and F1 against counting with NumPy."""

import math

import numpy as np
import pytest
import torch

from neural_photo_editor.metrics.segmentation import ConfusionMatrix, by_region


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


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, (4, 6, 6))
    predicted = np.where(generator.random(labels.shape) < 0.6, labels, 4)
    confusion = ConfusionMatrix(5)
    confusion.update(torch.from_numpy(predicted), torch.from_numpy(labels))
    f1 = confusion.f1()
    for c in range(3):
        hits = ((labels == c) & (predicted == c)).sum()
        precision, recall = hits / (predicted == c).sum(), hits / (labels == c).sum()
        assert float(f1[c]) == pytest.approx(2 * precision * recall / (precision + recall))
    iou = confusion.iou()
    np.testing.assert_allclose(f1[:3], 2 * iou[:3] / (1 + iou[:3]))
    assert math.isnan(f1[3])
    assert f1[4] == 0
    assert confusion.mean_f1() == pytest.approx(float(f1[:3].mean()))


def test_rows_are_shares_of_the_true_pixels() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 0, 2]))
    shares = confusion.row_shares()
    assert shares[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert shares[1].isnan().all()
    assert shares[2].tolist() == [0, 0, 1]
    assert by_region("iou", confusion.f1(), ("a", "b", "c")) == {
        "iou/a": pytest.approx(0.8),
        "iou/b": 0.0,
        "iou/c": 1.0,
    }
    assert "x/b" not in by_region("x", shares[:, 0] * shares[1], ("a", "b", "c"))


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
