"""From photos of any size to region label maps of the same size."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neural_photo_editor.api.schema import RegionSummary
from neural_photo_editor.common.regions import REGIONS
from neural_photo_editor.imaging.geometry import SquareCrop, choose_square, cut_out
from neural_photo_editor.imaging.masks import bounding_box
from neural_photo_editor.imaging.value_range import photo_to_tensor

LabelMap = NDArray[np.uint8]


def segment_photos(
    segmenter: Callable[[Tensor], Tensor],
    photos: Sequence[NDArray[np.uint8]],
    *,
    resolution: int,
    device: torch.device,
) -> list[LabelMap]:
    """Label every pixel of every photo, in one network call.

    The segmenter sees the whole photo, in a square of its long side. Its logits, not its labels,
    are enlarged, so that the borders of regions are smooth at the photo's size.

    Args:
        segmenter: float (N, 3, R, R) in [-1, 1] -> logits (N, 11, R, R).
        photos: uint8, (H, W, 3), each of its own size.
        resolution: R.
        device: device of the segmenter.

    Returns:
        For each photo its label map, uint8, (H, W), in 0..10.
    """
    crops = []
    for photo in photos:
        height, width = photo.shape[:2]
        crops.append(choose_square(height, width, must_contain=(0, 0, height, width)))
    squares = [
        cut_out(photo_to_tensor(photo), crop, resolution=resolution)
        for photo, crop in zip(photos, crops, strict=True)
    ]
    logits = segmenter(torch.cat(squares).to(device)).float().cpu()
    return [_label_map(logits[i : i + 1], crop) for i, crop in enumerate(crops)]


def _label_map(logits: Tensor, crop: SquareCrop) -> LabelMap:
    top, left, bottom, right = crop.visible(logits.shape[-1])
    size = (crop.height, crop.width)
    labels = torch.zeros(size, dtype=torch.uint8)
    best = torch.full(size, -torch.inf)
    # One region at a time: all enlarged logits of a 16-megapixel photo would take 740 MB.
    for region in REGIONS:
        enlarged = F.interpolate(
            logits[:, region.id : region.id + 1, top:bottom, left:right],
            size=size,
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        labels[enlarged > best] = region.id
        torch.maximum(best, enlarged, out=best)
    return labels.numpy()


def summarize_regions(labels: LabelMap) -> tuple[RegionSummary, ...]:
    """Return the table of all regions, also those the photo lacks (0 pixels, no box)."""
    counts = np.bincount(labels.reshape(-1), minlength=len(REGIONS))
    table = []
    for region in REGIONS:
        box = bounding_box(labels == region.id) if counts[region.id] else None
        table.append(
            RegionSummary(
                id=region.id,
                name=region.name,
                pixels=int(counts[region.id]),
                fraction=round(float(counts[region.id]) / labels.size, 6),
                box=None if box is None else (box[1], box[0], box[3], box[2]),
            )
        )
    return tuple(table)
