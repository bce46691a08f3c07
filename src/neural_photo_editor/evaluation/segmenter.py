"""Judging a segmenter: intersection over union, and predictions beside the truth."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from neural_photo_editor.common.regions import NUM_REGIONS, REGION_NAMES, colorize_labels
from neural_photo_editor.evaluation.evaluation_result import Batches, EvaluationResult
from neural_photo_editor.evaluation.pictures import Picture, enlarge, save_grid
from neural_photo_editor.imaging.value_range import to_model_range
from neural_photo_editor.metrics.segmentation import ConfusionMatrix

PICTURE_PX = 192


def evaluate_segmenter(
    network: nn.Module,
    batches: Batches,
    *,
    out_dir: Path,
    num_images: int = 6,
    device: torch.device | str = "cpu",
) -> EvaluationResult:
    """Measure mean IoU, each region's IoU and pixel accuracy on held-out photos.

    Args:
        network: photo -> logits of the regions.
        batches: held-out photos with label maps.
        out_dir: receives ``metrics.json`` and ``segmentation.png``, a row each of photos, truth
            and predictions.
        num_images: photos in the picture.
        device: where to compute.

    Raises:
        ValueError: there are no photos.
    """
    network = network.to(device)
    confusion, num_samples = ConfusionMatrix(NUM_REGIONS), 0
    photos: list[Picture] = []
    truth: list[Picture] = []
    predicted: list[Picture] = []
    with torch.inference_mode():
        for batch in batches:
            labels = batch["labels"].long()
            prediction = network(to_model_range(batch["image"]).to(device)).argmax(dim=1).cpu()
            confusion.update(prediction, labels)
            num_samples += len(labels)
            wanted = slice(0, max(0, num_images - len(photos)))
            photos += list(batch["image"][wanted].permute(0, 2, 3, 1).numpy())
            truth += [_paint(labels_) for labels_ in labels[wanted].numpy()]
            predicted += [_paint(labels_) for labels_ in prediction[wanted].numpy()]
    if not num_samples:
        raise ValueError("there are no held-out photos to evaluate the segmenter on")
    rows = [[enlarge(p, PICTURE_PX) for p in row] for row in (photos, truth, predicted)]
    save_grid(rows, out_dir / "segmentation.png")
    # A region that neither truth nor prediction contains has no IoU.
    iou = {
        f"iou/{name}": value
        for name, value in zip(REGION_NAMES, confusion.iou().tolist(), strict=True)
        if value == value
    }
    metrics = {
        "mean_iou": confusion.mean_iou(),
        "pixel_accuracy": confusion.pixel_accuracy(),
        **iou,
    }
    result = EvaluationResult("segmenter", num_samples, metrics, ["segmentation.png"])
    result.save(out_dir)
    return result


def _paint(labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> Picture:
    return colorize_labels(labels.astype(np.uint8))
