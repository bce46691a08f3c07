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
        num_classes: C, at most 63.
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
        radius_px = math.ceil(self.tolerance * math.hypot(*labels.shape[-2:]))
        found, num_found = self._near(predicted, labels, radius_px)
        true, num_true = self._near(labels, predicted, radius_px)
        # Where one of the two boundaries is empty, 0 / 0 becomes 0, and so F1 is 0.
        precision, recall = found / num_found.clamp(min=1), true / num_true.clamp(min=1)
        both = (precision + recall).clamp(min=torch.finfo(torch.float64).tiny)
        score, counted = 2 * precision * recall / both, (num_found + num_true) > 0
        self.totals = self.totals.to(score.device) + torch.stack((score.sum(0), counted.sum(0)))

    def _near(self, labels: Tensor, others: Tensor, radius_px: int) -> tuple[Tensor, Tensor]:
        """Count boundary pixels near the others' boundary of the same class, and all of them.

        Returns:
            float64, (N, C), twice.
        """
        num_classes = self.totals.shape[1]
        labels, others = labels.long(), others.long()
        edge = boundary_pixels(labels)
        reached = widen(torch.where(boundary_pixels(others), 1 << others, 0), radius_px)
        near = edge & ((reached >> labels) & 1).bool()
        images = torch.arange(len(labels), device=labels.device)[:, None, None]
        places = images * num_classes + labels

        def count(mask: Tensor) -> Tensor:
            counts = torch.bincount(places[mask], minlength=len(labels) * num_classes)
            return counts.view(len(labels), num_classes).double()

        return count(near), count(edge)

    def per_class(self) -> Tensor:
        """Return each class's mean over images, float64, (C,), NaN where it has no boundary."""
        return self.totals[0] / self.totals[1]

    def mean(self) -> float:
        """Mean over the classes that have a boundary somewhere; NaN before the first update."""
        return float(self.per_class().nanmean())


def boundary_pixels(labels: Tensor) -> Tensor:
    """Return which pixels have a 4-neighbor of another class: the outermost ones of each class.

    The image's own border bounds nothing.

    Args:
        labels: integer, (N, H, W).

    Returns:
        bool, (N, H, W).
    """
    edge = torch.zeros_like(labels, dtype=torch.bool)
    across = labels[:, :, 1:] != labels[:, :, :-1]
    down = labels[:, 1:] != labels[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge


def widen(sets: Tensor, radius_px: int) -> Tensor:
    """Return the sets that lie within a Euclidean distance of each pixel: dilation by a disk.

    Args:
        sets: int64, (N, H, W), bit c says whether the pixel belongs to set c: all sets are widened
            at once.

    Returns:
        int64, (N, H, W), bits likewise.
    """
    height, width = sets.shape[-2:]
    padded = F.pad(sets, (radius_px,) * 4)
    widened = torch.zeros_like(sets)
    for y in range(2 * radius_px + 1):
        reach = math.isqrt(radius_px**2 - (y - radius_px) ** 2)
        for x in range(radius_px - reach, radius_px + reach + 1):
            widened |= padded[:, y : y + height, x : x + width]
    return widened
