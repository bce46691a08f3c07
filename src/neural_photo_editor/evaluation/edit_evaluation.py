"""Judging a bundle by the edits it makes: tables, plots and a sheet of strips."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from neural_photo_editor.common.fingerprint import sha256_file
from neural_photo_editor.editing.pipeline import EditPipeline
from neural_photo_editor.evaluation.edit_sweep import Cell, EditSweep, MeasuredEdit, run_sweep
from neural_photo_editor.evaluation.edit_tables import draw_plots, write_csv, write_markdown
from neural_photo_editor.evaluation.evaluation_result import EvaluationResult
from neural_photo_editor.evaluation.pictures import (
    INK,
    PAPER,
    Picture,
    save_grid,
    to_pictures,
)
from neural_photo_editor.imaging.compositing import Photo
from neural_photo_editor.imaging.geometry import resize
from neural_photo_editor.imaging.value_range import photo_to_tensor
from neural_photo_editor.metrics.feature_distance import (
    Features,
    frechet_distance,
    kernel_distance,
    segmenter_features,
)
from neural_photo_editor.metrics.inception_features import (
    fit_to_inception,
    inception_features,
    load_inception,
)
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

STRIP_PX = 128
FEATURES_BATCH_SIZE = 32


class _View(NamedTuple):
    """What photos are compared by.

    Attributes:
        prefix: of the names of its distances.
        fit: resizes a photo, float (1, 3, H, W) in [-1, 1], to what the features are of.
        features: of the resized photos.
    """

    prefix: str
    fit: Callable[[Tensor], Tensor]
    features: Features


def evaluate_edits(
    pipeline: EditPipeline,
    photos: Sequence[Photo],
    *,
    real_photos: Sequence[Photo],
    sweep: EditSweep,
    out_dir: Path,
    num_strips: int = 6,
    features: Features | None = None,
    inception_weights: Path | None = None,
) -> EvaluationResult:
    """Edit photos; write ``metrics.json``, ``edits.csv``, ``edits.md``, plots and ``strips.png``.

    Every cell of the tables is a region, a start timestep and a number of steps; its kernel
    distance is that of its results from the real photos, and its Frechet distance too where there
    are more results and real photos than features. With an Inception network's weights its
    distances stand beside, which compare with the literature's, and ``metrics.json`` holds the
    file's digest.

    Args:
        pipeline: the editor.
        photos: square photos to edit, uint8 (H, W, 3).
        real_photos: square photos of other people, uint8 (H, W, 3).
        sweep: the edits.
        out_dir: receives the files.
        num_strips: rows of ``strips.png``: what is edited, a photo, its edits from every timestep.
        features: (float (N, 3, R, R) in [-1, 1], R the segmenter's resolution) -> (N, D); those
            of the bundle's segmenter when absent, see `segmenter_features`.
        inception_weights: a file as `load_inception` reads it; absent: no such distances.

    Raises:
        ValueError: too few real photos, or see `run_sweep` and `load_inception`.
    """
    views = _views(pipeline, features, inception_weights)
    out_dir.mkdir(parents=True, exist_ok=True)
    edits: dict[Cell, list[MeasuredEdit]] = defaultdict(list)
    for edit in run_sweep(pipeline, photos, sweep):
        edits[edit.cell].append(edit)
    table: dict[Cell, dict[str, float]] = {cell: _means(of_cell) for cell, of_cell in edits.items()}
    for view in views:
        real = _features_of(real_photos, view, pipeline.device)
        for cell, of_cell in edits.items():
            edited = _features_of([edit.result for edit in of_cell], view, pipeline.device)
            table[cell].update(_distances(edited, real, prefix=view.prefix))
    write_csv(table, out_dir / "edits.csv")
    write_markdown(table, out_dir / "edits.md")
    plots = draw_plots(table, out_dir)
    _save_strips(photos, edits, out_dir / "strips.png", colors=sweep.colors, num_strips=num_strips)
    metrics = {
        f"{name}/{cell.region}/t{cell.timestep:03d}/steps{cell.steps:03d}": value
        for cell, values in table.items()
        for name, value in values.items()
    }
    weights = {} if inception_weights is None else {"inception": sha256_file(inception_weights)}
    result = EvaluationResult("edits", len(photos), metrics, ["strips.png", *plots], weights)
    result.save(out_dir)
    return result


def _views(
    pipeline: EditPipeline, features: Features | None, inception_weights: Path | None
) -> list[_View]:
    if features is None:
        if not isinstance(pipeline.segmenter, SegmentationUNet):
            raise ValueError("the segmenter is no SegmentationUNet: give features")
        features = segmenter_features(pipeline.segmenter)
    side = pipeline.segmenter_resolution
    views = [_View("", partial(resize, size=(side, side)), features)]
    if inception_weights is not None:
        network = load_inception(inception_weights).to(pipeline.device)
        views.append(_View("inception_", fit_to_inception, inception_features(network)))
    return views


def _means(edits: Sequence[MeasuredEdit]) -> dict[str, float]:
    """Average the metrics of a cell; of changes outside the mask the largest counts."""
    means = {
        name: sum(edit.metrics[name] for edit in edits) / len(edits) for name in edits[0].metrics
    }
    worst = max(edit.metrics["max_difference_outside"] for edit in edits)
    return {"count": float(len(edits)), **means, "max_difference_outside": worst}


def _distances(edited: Tensor, real: Tensor, *, prefix: str) -> dict[str, float]:
    """Return the distances of a cell's results from the real photos that can be had."""
    distances = {}
    if len(edited) >= 2:
        distances[f"{prefix}kernel_distance"] = kernel_distance(edited, real)
    if min(len(edited), len(real)) > real.shape[1]:
        distances[f"{prefix}frechet_distance"] = frechet_distance(edited, real)
    return distances


def _features_of(photos: Sequence[Photo], view: _View, device: torch.device) -> Tensor:
    batches = []
    for start in range(0, len(photos), FEATURES_BATCH_SIZE):
        batch = photos[start : start + FEATURES_BATCH_SIZE]
        images = torch.cat([view.fit(photo_to_tensor(photo)) for photo in batch])
        batches.append(view.features(images.to(device)))
    return torch.cat(batches)


def _save_strips(
    photos: Sequence[Photo],
    edits: dict[Cell, list[MeasuredEdit]],
    path: Path,
    *,
    colors: Mapping[str, str | None],
    num_strips: int,
) -> None:
    """Write rows of a photo and its edits from every timestep, with the most steps; regions in
    turn, and photos too."""
    results = {
        (edit.cell.region, edit.photo, edit.cell.timestep): edit.result
        for cell in sorted(edits, key=lambda cell: cell.steps)
        for edit in edits[cell]
    }
    timesteps = sorted({cell.timestep for cell in edits})
    regions = list(dict.fromkeys(cell.region for cell in edits))
    left = {(region, photo) for region, photo, _ in results}
    times_shown: Counter[int] = Counter()
    rows = []
    for number in range(num_strips):
        region = regions[number % len(regions)]
        suited = [photo for name, photo in left if name == region]
        if not suited:
            continue
        photo = min(suited, key=lambda photo: (times_shown[photo], photo))
        times_shown[photo] += 1
        left.remove((region, photo))
        strip = [photos[photo], *(results[region, photo, t] for t in timesteps)]
        pictures = to_pictures(torch.cat([_thumbnail(picture) for picture in strip]))
        rows.append([_card(region, colors[region]), *pictures])
    save_grid(rows, path, headers=("edit", "photo", *(f"t = {t}" for t in timesteps)))


def _card(region: str, color: str | None) -> Picture:
    """Return a picture that names a region and shows its paint."""
    card = Image.new("RGB", (STRIP_PX, STRIP_PX), PAPER)
    draw, font = ImageDraw.Draw(card), ImageFont.load_default(size=15)
    middle = STRIP_PX / 2
    draw.text((middle, 36), region, fill=INK, font=font, anchor="mm")
    if color is not None:
        draw.rectangle((middle - 28, 52, middle + 28, 76), fill=color)
    draw.text((middle, 92), color or "filled", fill=INK, font=font, anchor="mm")
    return np.asarray(card)


def _thumbnail(photo: Photo) -> Tensor:
    return resize(photo_to_tensor(photo), (STRIP_PX, STRIP_PX))
