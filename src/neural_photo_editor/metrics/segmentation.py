"""Metrics of the segmenter."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class ConfusionMatrix:
    """Counts pixels by (true region, predicted region), and what follows from the counts.

    Attributes:
        counts: int64, (C, C), rows true, columns predicted, on the device of the first update.
            Counts of several processes may be summed before the metrics are read.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    @torch.no_grad()
    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Add images.

        Args:
            predicted, labels: integer, the same shape, ids 0..C-1.

        Raises:
            ValueError: shapes differ, or an id is outside 0..C-1.
        """
        if predicted.shape != labels.shape:
            raise ValueError(
                f"predicted is {tuple(predicted.shape)} and labels {tuple(labels.shape)}: "
                "give one id per pixel in both (argmax of the logits)"
            )
        num_classes = len(self.counts)
        predicted, labels = predicted.flatten().long(), labels.flatten().long()
        for name, ids in (("predicted", predicted), ("labels", labels)):
            if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
                raise ValueError(f"{name} has ids outside 0..{num_classes - 1}")
        pairs = torch.bincount(labels * num_classes + predicted, minlength=num_classes**2)
        self.counts = self.counts.to(pairs.device) + pairs.view(num_classes, num_classes)

    def iou(self) -> Tensor:
        """Intersection over union (Jaccard index) of each class.

        Returns:
            float64, (C,), NaN where a class is neither in the labels nor predicted.
        """
        counts = self.counts.double()
        intersection = counts.diagonal()
        return intersection / (counts.sum(0) + counts.sum(1) - intersection)

    def mean_iou(self) -> float:
        """Mean IoU over the classes that occur in the labels; NaN before the first update."""
        return float(self.iou()[self.counts.sum(1) > 0].mean())

    def f1(self) -> Tensor:
        """F1 (Dice coefficient) of each class: 2 TP / (2 TP + FP + FN).

        Returns:
            float64, (C,), NaN where a class is neither in the labels nor predicted.
        """
        counts = self.counts.double()
        return 2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))

    def mean_f1(self) -> float:
        """Mean F1 over the classes that occur in the labels; NaN before the first update."""
        return float(self.f1()[self.counts.sum(1) > 0].mean())

    def pixel_accuracy(self) -> float:
        """Share of pixels with the right class; NaN before the first update."""
        counts = self.counts.double()
        return float(counts.diagonal().sum() / counts.sum())

    def row_shares(self) -> Tensor:
        """Share of each true class's pixels that was predicted as each class.

        Returns:
            float64, (C, C); rows sum to 1, or are NaN where a class is not in the labels.
        """
        counts = self.counts.double()
        return counts / counts.sum(1, keepdim=True)


def by_region(prefix: str, values: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Name the values of classes ``prefix/NAME``, those that are NaN left out."""
    pairs = zip(names, values.tolist(), strict=True)
    return {f"{prefix}/{name}": value for name, value in pairs if not math.isnan(value)}
