"""How far edits lie from real portraits, for benchmarks/editing.py.

Twice: features of the whole picture against those of 1,000 other real portraits; and, more
sensitive, features pooled inside the mask alone against those of real portraits inside the same
kind of region, as many of each kind as the edits have.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

import numpy as np
import torch
from editing_runs import REGISTRY, RESOLUTION, to_batch
from numpy.typing import NDArray
from torch import Tensor

from neural_photo_editor.artifacts.load import load_artifact
from neural_photo_editor.artifacts.registry import resolve
from neural_photo_editor.common.regions import region_id
from neural_photo_editor.common.seeding import numpy_generator
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait
from neural_photo_editor.evaluation.edit_cases import (
    FILLED,
    LEAST_SHARE,
    PAINTED,
    REGIONS,
    EditCase,
    filled_cases,
)
from neural_photo_editor.metrics.edit_quality import seam
from neural_photo_editor.metrics.feature_distance import (
    feature_maps,
    frechet_distance,
    kernel_distance,
    pool_features,
)
from neural_photo_editor.networks.segmentation_unet import SegmentationUNet

REAL_SERIES = 21  # Neither trained on nor edited.
NUM_REAL = 1000
NUM_REAL_PER_KIND = 200
RESAMPLES = 200  # Of the bootstrap.
BATCH_SIZE = 50

Photo = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Values = dict[str, float]


def realism(cases: Sequence[EditCase], pictures: Sequence[Photo]) -> Values:
    """Return the four distances; the Frechet ones only where edits outnumber features."""
    whole, inside = edited_features(cases, pictures)
    real, real_inside = real_features(), real_region_features(cases)
    values = {
        "kernel_distance": kernel_distance(whole, real),
        "region_kernel": kernel_distance(inside, real_inside),
    }
    if len(whole) > whole.shape[1]:
        values["frechet_distance"] = frechet_distance(whole, real)
        values["region_frechet"] = frechet_distance(inside, real_inside)
    return values


def spread_of_ratio(
    cases: Sequence[EditCase], ours: Sequence[Photo], original: Sequence[Photo]
) -> Values:
    """Return the 5th and 95th percentile of ours / original's, the edits resampled in pairs."""
    seen = [edited_features(cases, pictures)[1] for pictures in (ours, original)]
    real = real_region_features(cases)
    rng = numpy_generator("bootstrap", len(cases))
    ratios = []
    for _ in range(RESAMPLES):
        drawn = torch.from_numpy(rng.integers(0, len(cases), len(cases)))
        distances = [kernel_distance(features[drawn], real) for features in seen]
        ratios.append(distances[0] / distances[1])
    low, high = np.percentile(ratios, [5, 95])
    return {"kernel_ratio_p05": float(low), "kernel_ratio_p95": float(high)}


def spread_of_differences(
    cases: Sequence[EditCase], ours: Sequence[Sequence[Photo]], theirs: Sequence[Photo]
) -> dict[str, tuple[float, float]]:
    """Return the 5th and 95th percentile of ours - theirs, over portraits drawn with replacement.

    Ours are several draws of the same edits, whose measures are averaged.
    """
    draws = [*ours, theirs]
    seams = np.array(
        [[seam(c.photo, p, c.mask) for c, p in zip(cases, draw, strict=True)] for draw in draws]
    )
    seen = [edited_features(cases, draw) for draw in draws]
    real, regions = real_features(), real_region_features(cases)
    rng = numpy_generator("bootstrap of differences", len(cases))
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(cases), len(cases))
        values = []
        for own, (whole, inside) in zip(seams, seen, strict=True):
            distances = kernel_distance(whole[drawn], real), kernel_distance(inside[drawn], regions)
            values.append([own[drawn].mean(), *distances])
        differences.append(np.mean(values[:-1], axis=0) - values[-1])
    low, high = np.percentile(differences, [5, 95], axis=0)
    names = ("seam", "kernel_distance", "region_kernel")
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def edited_features(cases: Sequence[EditCase], pictures: Sequence[Photo]) -> tuple[Tensor, Tensor]:
    """Return features of whole pictures and of the pixels inside their masks."""
    return _features(pictures, None), _features(pictures, [case.mask for case in cases])


@cache
def real_features() -> Tensor:
    return _features([portrait.photo for portrait in islice(_portraits(), NUM_REAL)], None)


def real_region_features(cases: Sequence[EditCase]) -> Tensor:
    """Return features inside real regions of the cases' kinds, in the cases' proportions."""
    counts = Counter(case.kind for case in cases)
    most = max(counts.values())
    return torch.cat(
        [
            _real_kind_features(kind)[: round(NUM_REAL_PER_KIND * count / most)]
            for kind, count in sorted(counts.items())
        ]
    )


@cache
def _real_kind_features(kind: str) -> Tensor:
    examples = _fills(kind) if kind in FILLED else _regions(kind)
    photos, masks = zip(*islice(examples, NUM_REAL_PER_KIND), strict=True)
    return _features(photos, masks)


def _fills(kind: str) -> Iterator[tuple[Photo, Mask]]:
    for case in filled_cases(REAL_SERIES, resolution=RESOLUTION):
        if case.kind == kind:
            yield case.photo, case.mask


def _regions(kind: str) -> Iterator[tuple[Photo, Mask]]:
    assert kind in PAINTED
    ids = [region_id(name) for name in REGIONS.get(kind, (kind,))]
    for portrait in _portraits():
        mask = np.isin(portrait.labels, ids)
        if mask.mean() >= LEAST_SHARE.get(kind, 0.05):
            yield portrait.photo, mask


def _portraits() -> Iterator[Portrait]:
    for index in range(1_000_000):
        yield generate_portrait(REAL_SERIES, index, resolution=RESOLUTION)


@cache
def _segmenter() -> SegmentationUNet:
    segmenter = load_artifact(resolve(REGISTRY, "demo_segmenter@latest")).network
    assert isinstance(segmenter, SegmentationUNet)
    return segmenter


def _features(photos: Sequence[Photo], masks: Sequence[Mask] | None) -> Tensor:
    pooled = []
    for start in range(0, len(photos), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        maps = feature_maps(_segmenter(), to_batch(photos[batch]))
        mask = None if masks is None else torch.from_numpy(np.stack(masks[batch]))[:, None]
        pooled.append(pool_features(maps, mask=mask))
    return torch.cat(pooled)
