"""Losses of the segmenter."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def balanced_weights(region_shares: Sequence[float], *, exponent: float) -> Tensor:
    """Return what a pixel of each region weighs: region_share ** -exponent, 1 on average.

    Exponent 1 is inverse class frequency, so that every region weighs the same in sum; 0.5 is the
    inverse square root of Mahajan et al. 2018 ("Exploring the Limits of Weakly Supervised
    Pretraining", section 2.2; there of how often images are drawn). The mean is over the pixels of
    the training set: balanced and plain losses are of one size. With f_c the shares,

        w_c = f_c^-exponent / sum_k f_k^(1 - exponent)

    Args:
        region_shares: of the pixels, (C,), not negative; they are normalized. A region of share 0
            gets the weight of the rarest other one.
        exponent: from 0, all pixels alike, to 1.

    Returns:
        float32, (C,).

    Raises:
        ValueError: a share is negative or not finite, all are 0, or the exponent is out of range.
    """
    if not 0.0 <= exponent <= 1.0:
        raise ValueError(f"class_balance is {exponent}; choose a number from 0 to 1")
    shares = torch.tensor(list(region_shares), dtype=torch.float64)
    if not torch.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise ValueError(f"region_shares are {list(region_shares)}; give each region's pixels")
    shares /= shares.sum()
    weights = shares.clamp(min=shares[shares > 0].min()) ** -exponent
    return (weights / (shares * weights).sum()).float()


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
    probabilities = logits.float().softmax(dim=1)
    # Sums over a one-hot mask instead of additions by label: a GPU's adders would wait for each
    # other. Nothing here waits for the device.
    regions = torch.arange(logits.shape[1], device=labels.device)
    is_label = labels[:, None] == regions[:, None, None]
    overlap = (probabilities * is_label).sum((0, 2, 3))
    num_labeled = is_label.sum((0, 2, 3))
    sizes = probabilities.sum((0, 2, 3)) + num_labeled
    # 0 for absent classes, also where the network gives one no probability at all.
    dice = 2 * overlap / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)
    return 1 - dice.sum() / (num_labeled > 0).sum()


def cross_entropy_dice_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    dice_weight: float = 1.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy + `dice_weight` * soft Dice (nnU-Net, Isensee et al. 2021).

    Cross-entropy weighs regions by area, unless `class_weights` say otherwise; Dice weighs a brow
    as much as the hair. The weighted sum is divided by the number of pixels, not by their weights
    as torch does: the mean over processes is then that over their pixels.

    Args:
        logits, labels: as in `dice_loss`.
        class_weights: float, (C,), see `balanced_weights`; None for 1 everywhere.

    Returns:
        float32 scalar.
    """
    # torch's own sum of them has no deterministic form on a GPU.
    losses = F.cross_entropy(logits.float(), labels, weight=class_weights, reduction="none")
    return losses.mean() + dice_weight * dice_loss(logits, labels)
