"""Edits of every photo for every region, start timestep and number of steps, measured."""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neural_photo_editor.api.codec import encode_png
from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.api.schema import EditRequest, EditResult, SegmentRequest, SegmentResult
from neural_photo_editor.common.log import get_logger
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.shard_progress import format_duration
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.masks import Mask
from neural_photo_editor.imaging.recoloring import recolor
from neural_photo_editor.metrics.edit_quality import (
    max_difference_outside,
    mean_change_inside,
    paint_difference,
    seam,
    share_unchanged_outside,
)

_log = get_logger(__name__)

PROGRESS_EVERY_S = 10.0


@dataclass(frozen=True)
class EditSweep:
    """Which edits to make.

    Attributes:
        colors: region -> paint as ``#rrggbb``, or None to fill the region without paint.
        timesteps: where the edits start.
        steps: numbers of steps; a number above the timestep is cut to it.
        sampler: of every edit; None leaves it to the bundle.
        least_share: regions that take less of a photo than this share are not edited in it.
        batch_size: edits that share the networks' calls.
        seed: of the noise; photo i has seed + i, whatever the region, timestep and steps.
    """

    colors: Mapping[str, str | None]
    timesteps: Sequence[int]
    steps: Sequence[int]
    sampler: str | None = None
    least_share: float = 0.003
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.colors or not self.timesteps or not self.steps:
            raise ValueError("the sweep is empty: give at least one region, timestep and steps")
        for region in self.colors:
            region_id(region)


@dataclass(frozen=True)
class Cell:
    """What the edits of one entry of the tables have in common."""

    region: str
    timestep: int
    steps: int


@dataclass(frozen=True)
class MeasuredEdit:
    """One edit.

    Attributes:
        photo: position of the photo.
        result: uint8, (H, W, 3).
        metrics: name -> value, see `measure_edit`.
    """

    cell: Cell
    photo: int
    result: Photo
    metrics: dict[str, float]


def measure_edit(
    photo: Photo, result: Photo, mask: Mask, *, painted: Photo | None
) -> dict[str, float]:
    """Return the measures of one edit by name; those of the paint only where there is some."""
    metrics = {
        "max_difference_outside": float(max_difference_outside(photo, result, mask)),
        "unchanged_outside": share_unchanged_outside(photo, result, mask),
        "change_inside": mean_change_inside(photo, result, mask),
        "seam": seam(photo, result, mask),
    }
    if painted is not None:
        metrics["paint_difference"] = paint_difference(painted, result, mask)
    return metrics


def run_sweep(
    pipeline: EditPipeline, photos: Sequence[Photo], sweep: EditSweep
) -> Iterator[MeasuredEdit]:
    """Make the edits of a sweep, cell by cell, and log rate and time left.

    Args:
        pipeline: the editor.
        photos: uint8, (H, W, 3), of any sizes.
        sweep: what to do with them.

    Raises:
        ValueError: the editor refuses a request, with its own words; or no photo shows any of the
            regions.
    """
    files = [encode_png(photo) for photo in photos]
    masks = _region_masks(pipeline, files, sweep)
    if not any(masks.values()):
        raise ValueError(f"no photo shows {', '.join(masks)}: give other regions or photos")
    cells = [
        Cell(region, timestep, steps)
        for region in sweep.colors
        for timestep in sweep.timesteps
        for steps in sorted({min(steps, timestep) for steps in sweep.steps})
    ]
    progress = _Progress(sum(len(masks[cell.region]) for cell in cells))
    for cell in cells:
        suited = list(masks[cell.region])
        for start in range(0, len(suited), sweep.batch_size):
            batch = suited[start : start + sweep.batch_size]
            answers = pipeline.run([_request(files[i], cell, sweep, photo=i) for i in batch])
            for i, answer in zip(batch, answers, strict=True):
                mask = masks[cell.region][i]
                result = _picture(answer)
                painted = _painted(photos[i], mask, sweep.colors[cell.region])
                metrics = measure_edit(photos[i], result, mask, painted=painted)
                yield MeasuredEdit(cell, i, result, metrics)
            progress.add(len(batch))


def _request(file: bytes, cell: Cell, sweep: EditSweep, *, photo: int) -> EditRequest:
    fields = {} if sweep.sampler is None else {"sampler": sweep.sampler}
    return EditRequest(
        photo=file,
        regions=(cell.region,),
        color=sweep.colors[cell.region],
        timestep=cell.timestep,
        steps=cell.steps,
        seed=sweep.seed + photo,
        **fields,  # type: ignore[arg-type]
    )


def _region_masks(
    pipeline: EditPipeline, files: Sequence[bytes], sweep: EditSweep
) -> dict[str, dict[int, Mask]]:
    """Return region -> photo -> its pixels, of the photos that show enough of the region."""
    masks: dict[str, dict[int, Mask]] = {region: {} for region in sweep.colors}
    for start in range(0, len(files), sweep.batch_size):
        batch = files[start : start + sweep.batch_size]
        answers = pipeline.run([SegmentRequest(photo=file) for file in batch])
        for i, answer in enumerate(answers, start):
            labels = _picture(answer)
            for region, of_region in masks.items():
                mask = labels == region_id(region)
                if mask.mean() >= sweep.least_share and not mask.all():
                    of_region[i] = mask
    return masks


def _picture(answer: object) -> NDArray[np.uint8]:
    """Decode an answer's image: RGB of an edit, label map of a segmentation."""
    if isinstance(answer, RequestError):
        raise ValueError(f"the editor refuses a request: {answer}")
    assert isinstance(answer, EditResult | SegmentResult)
    with Image.open(io.BytesIO(answer.image)) as image:
        return np.array(image if image.mode == "L" else image.convert("RGB"))


def _painted(photo: Photo, mask: Mask, color: str | None) -> Photo | None:
    if color is None:
        return None
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return recolor(photo, mask, (red, green, blue))


class _Progress:
    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._start_s = self._last_line_s = time.monotonic()

    def add(self, count: int) -> None:
        self.done += count
        now_s = time.monotonic()
        if now_s - self._last_line_s < PROGRESS_EVERY_S and self.done < self.total:
            return
        self._last_line_s = now_s
        rate = self.done / max(now_s - self._start_s, 1e-9)
        _log.info(
            "%d of %d edits, %.3g edits/s, %s left",
            self.done, self.total, rate, format_duration((self.total - self.done) / rate),
        )  # fmt: skip
