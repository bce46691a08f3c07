"""Losses of the segmenter."""

import torch
import torch.nn.functional as F
from torch import Tensor


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al. 2016, Eq. of section 3, linear denominator as in nnU-Net).

    One minus the Dice coefficient of each class, over all pixels of the batch, averaged over the
    classes that occur in `labels`: a class that is absent has an overlap of 0 whatever the network
    does, and would only add noise. Pixels wrongly given to an absent class still cost, because the
    class they belong to loses them.

    Args:
        logits: float, (N, C, H, W).
        labels: int64, (N, H, W), ids 0..C-1.

    Returns:
        float32 scalar in [0, 1].
    """
    num_classes = logits.shape[1]
    probabilities = logits.float().softmax(dim=1)
    of_label = probabilities.gather(1, labels[:, None]).flatten()
    # index_add instead of one-hot: no second (N, C, H, W) tensor.
    zeros = probabilities.new_zeros(num_classes)
    overlap = zeros.index_add(0, labels.flatten(), of_label)
    num_labeled = zeros.index_add(0, labels.flatten(), torch.ones_like(of_label))
    dice = 2 * overlap / (probabilities.sum((0, 2, 3)) + num_labeled)
    return 1 - dice[num_labeled > 0].mean()


def cross_entropy_dice_loss(logits: Tensor, labels: Tensor, *, dice_weight: float = 1.0) -> Tensor:
    """Cross-entropy + `dice_weight` * soft Dice (nnU-Net, Isensee et al. 2021).

    Cross-entropy weighs regions by area; Dice weighs a brow as much as the hair.

    Args: logits and labels as in `dice_loss`.

    Returns:
        float32 scalar.
    """
    return F.cross_entropy(logits.float(), labels) + dice_weight * dice_loss(logits, labels)
