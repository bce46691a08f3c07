"""Segmentation losses against sums written out in float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from neural_photo_editor.losses.segmentation import (
    balanced_weights,
    cross_entropy_dice_loss,
    dice_loss,
)


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


def test_an_absent_class_without_probability_costs_nothing() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    logits = (1000 * F.one_hot(labels, 4).permute(0, 3, 1, 2).float()).requires_grad_()
    loss = dice_loss(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_loss_waits_for_no_value_on_the_device() -> None:
    # meta has none: whatever reads one fails.
    logits = torch.zeros(2, 5, 6, 7, device="meta", requires_grad=True)
    labels = torch.zeros(2, 6, 7, dtype=torch.int64, device="meta")
    loss = cross_entropy_dice_loss(logits, labels, class_weights=torch.ones(5, device="meta"))
    loss.backward()
    assert loss.device == logits.device


def test_deterministic_training_can_compute_the_loss_on_a_gpu() -> None:
    class Reductions(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.ops.aten.nll_loss2d_forward.default:
                seen.append(args[3])
            return func(*args, **(kwargs or {}))

    seen: list[int] = []
    with Reductions():
        cross_entropy_dice_loss(torch.zeros(2, 5, 6, 7), torch.zeros(2, 6, 7, dtype=torch.int64))
    # All others add in the order in which a GPU's threads happen to run, and it refuses that.
    assert seen == [0]  # No reduction.


def test_low_precision_logits_give_a_float32_loss(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = batch
    loss = cross_entropy_dice_loss(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cross_entropy_dice_loss(logits, labels).item(), rel=0.01)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [
        (0.0, [1.0, 1.0, 1.0]),
        # 1 / root of (0.64, 0.32, 0.04), over 0.8 + 0.565685 + 0.2.
        (0.5, [1.25 / 1.565685, 1.767767 / 1.565685, 5.0 / 1.565685]),
        (1.0, [1 / (3 * 0.64), 1 / (3 * 0.32), 1 / (3 * 0.04)]),
    ],
)
def test_weights_are_those_by_hand(exponent: float, expected: list[float]) -> None:
    shares = [0.64, 0.32, 0.04]
    weights = balanced_weights([1000 * share for share in shares], exponent=exponent)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(weights @ torch.tensor(shares)) == pytest.approx(1.0, rel=1e-6)


def test_an_absent_region_weighs_like_the_rarest_one() -> None:
    weights = balanced_weights([0.7, 0.0, 0.3], exponent=1.0)
    assert weights[1] == weights[2]
    assert weights[0] == pytest.approx(0.5 / 0.7)


@pytest.mark.parametrize("shares", [[0.5, -0.1], [0.0, 0.0], [float("nan"), 1.0], []])
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="region_shares"):
        balanced_weights(shares, exponent=0.5)


@pytest.mark.parametrize("exponent", [-0.1, 1.5, float("nan")])
def test_a_balance_out_of_range_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match="class_balance is"):
        balanced_weights([0.5, 0.5], exponent=exponent)


def test_weighted_cross_entropy_is_the_sum_by_hand(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = batch
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 4.0])
    loss = cross_entropy_dice_loss(logits, labels, dice_weight=0.0, class_weights=weights)
    total, values = 0.0, logits.double().numpy()
    for n, y, x in np.ndindex(*labels.shape):
        label = int(labels[n, y, x])
        scores = values[n, :, y, x]
        total += float(weights[label]) * (np.log(np.exp(scores).sum()) - scores[label])
    assert loss.item() == pytest.approx(total / labels.numel(), rel=1e-6)


def test_weighted_cross_entropy_is_the_mean_of_that_of_equal_parts(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, labels = batch
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 4.0])

    def loss(rows: slice) -> float:
        return cross_entropy_dice_loss(
            logits[rows], labels[rows], dice_weight=0.0, class_weights=weights
        ).item()

    parts = (loss(slice(0, 1)) + loss(slice(1, 2))) / 2
    assert parts == pytest.approx(loss(slice(0, 2)), rel=1e-6)
