"""Segmentation losses against sums written out in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from neural_photo_editor.losses.segmentation import cross_entropy_dice_loss, dice_loss


def dice_by_hand(logits: np.ndarray, labels: np.ndarray) -> float:
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    scores = []
    for c in range(logits.shape[1]):
        truth = labels == c
        if truth.any():
            overlap = (probabilities[:, c] * truth).sum()
            scores.append(2 * overlap / (probabilities[:, c].sum() + truth.sum()))
    return 1 - float(np.mean(scores))


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 7), generator=generator)  # 3 and 4 are absent
    return logits, labels


def test_dice_equals_the_sum_by_hand(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    expected = dice_by_hand(logits.double().numpy(), labels.numpy())
    assert dice_loss(logits, labels).item() == pytest.approx(expected, abs=1e-6)


def test_combination_is_the_sum_of_both(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    expected = F.cross_entropy(logits, labels) + 0.5 * dice_loss(logits, labels)
    actual = cross_entropy_dice_loss(logits, labels, dice_weight=0.5)
    torch.testing.assert_close(actual, expected)


def test_perfect_and_opposite_predictions() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    perfect = 100 * F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert dice_loss(perfect, labels).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(perfect.roll(1, dims=1), labels).item() == pytest.approx(1, abs=1e-6)


def test_absent_classes_get_no_gradient_of_their_own(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = batch
    # Moving probability between two absent classes changes nothing.
    moved = logits.clone()
    moved[:, [3, 4]] = logits[:, [4, 3]]
    torch.testing.assert_close(dice_loss(moved, labels), dice_loss(logits, labels))


def test_low_precision_logits_give_a_float32_loss(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = batch
    loss = cross_entropy_dice_loss(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy_dice_loss(logits, labels).item(), rel=0.01)
