"""Judging a segmenter: overlap, borders, confusions, and predictions beside the truth."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from neural_photo_editor.common.regions import NUM_REGIONS, REGION_NAMES, colorize_labels
from neural_photo_editor.editing.segmentation import MirrorAveraged
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.held_out import Batches
from neural_photo_editor.evaluation.pictures import Picture, enlarge, save_grid
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.metrics.boundary import BoundaryF1
from neural_photo_editor.metrics.segmentation import ConfusionMatrix, by_region
from neural_photo_editor.training.confusion_picture import draw_confusion

PICTURE_PX = 192


def evaluate_segmenter(
    network: nn.Module,
    batches: Batches,
    *,
    out_dir: Path,
    num_images: int = 6,
    test_time_flip: bool = False,
    device: torch.device | str = "cpu",
) -> EvaluationResult:
    """Measure IoU and F1 of regions and borders, and pixel accuracy, on held-out photos.

    Args:
        network: photo -> logits of the regions.
        batches: held-out photos with label maps.
        out_dir: receives ``segmentation.png``, a row each of photos, truth and predictions, and
            ``confusion.png``.
        num_images: photos in the picture.
        test_time_flip: see `MirrorAveraged`.
        device: where to compute.

    Raises:
        ValueError: there are no photos.
    """
    network = (MirrorAveraged(network) if test_time_flip else network).to(device)
    confusion, boundary, num_samples = ConfusionMatrix(NUM_REGIONS), BoundaryF1(NUM_REGIONS), 0
    photos: list[Picture] = []
    truth: list[Picture] = []
    predicted: list[Picture] = []
    with torch.inference_mode():
        for batch in batches:
            labels = batch["labels"].long()
            prediction = network(to_model_range(batch["image"]).to(device)).argmax(dim=1).cpu()
            confusion.update(prediction, labels)
            boundary.update(prediction, labels)
            num_samples += len(labels)
            wanted = slice(0, max(0, num_images - len(photos)))
            photos += list(batch["image"][wanted].permute(0, 2, 3, 1).numpy())
            truth += [_paint(labels_) for labels_ in labels[wanted].numpy()]
            predicted += [_paint(labels_) for labels_ in prediction[wanted].numpy()]
    if not num_samples:
        raise ValueError("there are no held-out photos to evaluate the segmenter on")
    rows = [[enlarge(p, PICTURE_PX) for p in row] for row in (photos, truth, predicted)]
    save_grid(rows, out_dir / "segmentation.png")
    draw_confusion(confusion, out_dir / "confusion.png", title=f"{num_samples:,} held-out photos")
    metrics = {
        "mean_iou": confusion.mean_iou(),
        "mean_f1": confusion.mean_f1(),
        "boundary_f1": boundary.mean(),
        "pixel_accuracy": confusion.pixel_accuracy(),
        **by_region("iou", confusion.iou(), REGION_NAMES),
        **by_region("f1", confusion.f1(), REGION_NAMES),
        **by_region("boundary_f1", boundary.per_class(), REGION_NAMES),
    }
    pictures = ["segmentation.png", "confusion.png"]
    return EvaluationResult("segmenter", num_samples, metrics, pictures)


def _paint(labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Picture:
    return colorize_labels(labels.astype(np.uint8))
