"""How well the borders of regions are met, which areas say little about."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class BoundaryF1:
    """F1 of boundary pixels (Csurka et al. 2013, "What is a good evaluation measure for semantic
    segmentation?", section 3).

    For each image and class, precision is the share of predicted boundary pixels within a
    tolerance of a true one, recall the share of true ones within it of a predicted one. Csurka et
    al. average over the classes of an image first; here each class is averaged over the images in
    which it has a boundary, true or predicted, and then the classes, so that a hat in few images
    counts like skin in all.

    Args:
        num_classes: C.
        tolerance: Euclidean distance as a share of the image's diagonal, rounded up to whole
            pixels: 0.0075 is Csurka et al.'s, and 1, 2, 3 pixels at 64, 128, 256 pixels.

    Attributes:
        totals: float64, (2, C): sums of F1 over images, and the number of those images, on the
            device of the first update. Those of several processes may be summed before the scores
            are read.
    """

    def __init__(self, num_classes: int, *, tolerance: float = 0.0075) -> None:
        self.tolerance = tolerance
        self.totals = torch.zeros(2, num_classes, dtype=torch.float64)

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add images.

        Args:
            predicted, labels: integer, (N, H, W), ids 0..C-1.
        """
        num_classes = self.totals.shape[1]
        radius_px = math.ceil(self.tolerance * math.hypot(*labels.shape[-2:]))
        found = class_boundaries(predicted, num_classes)
        true = class_boundaries(labels, num_classes)
        num_found, num_true = found.sum((2, 3)).double(), true.sum((2, 3)).double()
        # (N, C); 0 / 0 is replaced by 0, which F1 is where one of the two boundaries is empty.
        precision = (found & widen(true, radius_px)).sum((2, 3)) / num_found.clamp(min=1)
        recall = (true & widen(found, radius_px)).sum((2, 3)) / num_true.clamp(min=1)
        both = (precision + recall).clamp(min=torch.finfo(torch.float64).tiny)
        counted = (num_found + num_true) > 0
        score = 2 * precision * recall / both
        self.totals = self.totals.to(score.device) + torch.stack((score.sum(0), counted.sum(0)))

    def per_class(self) -> Tensor:
        """Return each class's mean over images, float64, (C,), NaN where it has no boundary."""
        return self.totals[0] / self.totals[1]

    def mean(self) -> float:
        """Mean over the classes that have a boundary somewhere; NaN before the first update."""
        return float(self.per_class().nanmean())


def class_boundaries(labels: Tensor, num_classes: int) -> Tensor:
    """Return where each class's outermost pixels lie: those with a 4-neighbor of another class.

    The image's own border bounds nothing.

    Args:
        labels: integer, (N, H, W).

    Returns:
        bool, (N, C, H, W).
    """
    edge = torch.zeros_like(labels, dtype=torch.bool)
    across = labels[:, :, 1:] != labels[:, :, :-1]
    down = labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    classes = torch.arange(num_classes, device=labels.device)
    return (labels[:, None] == classes[:, None, None]) & edge[:, None]


def widen(masks: Tensor, radius_px: int) -> Tensor:
    """Return the pixels within a Euclidean distance of a set one: dilation by a disk.

    Args:
        masks: bool, (N, C, H, W).

    Returns:
        bool, (N, C, H, W).
    """
    offsets = torch.arange(-radius_px, radius_px + 1, device=masks.device)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius_px**2).float()
    # Every class is an image of its own: one kernel serves all.
    counted = F.conv2d(masks.flatten(0, 1)[:, None].float(), disk[None, None], padding=radius_px)
    return counted[:, 0].view_as(masks) > 0.5
