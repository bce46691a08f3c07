"""Edits of drawn portraits to be made and judged: photo, paint and mask at one size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neural_photo_editor.common.regions import region_id
from neural_photo_editor.data.synthetic_portraits import Portrait, generate_portrait
from neural_photo_editor.evaluation.brush_strokes import beanie_strokes
from neural_photo_editor.evaluation.edit_masks import blob_mask, mouth_mask, scratch_mask
from neural_photo_editor.imaging.compositing import Photo, paint_over
from neural_photo_editor.imaging.masks import Mask
from neural_photo_editor.imaging.recoloring import recolor

PAINTED = ("hair", "lip", "skin", "hat")
"""Kinds of painted edits: three regions in another color, and a hat drawn with strokes."""

FILLED = ("blob", "mouth", "scratch")
"""Kinds of edits without paint."""

REGIONS = {"hair": ("hair",), "lip": ("lip",), "skin": ("skin", "nose", "ear", "neck")}
"""Regions that a recolored kind covers."""

LEAST_SHARE = {"hair": 0.05, "lip": 0.004, "skin": 0.08}
"""Share of the picture that a region must take to be recolored."""

STROKE_RESOLUTION = 256
"""Strokes are painted at this many pixels and shrunk, as a person paints on a large photo."""


@dataclass(frozen=True)
class EditCase:
    """An edit to make.

    Attributes:
        kind: one of PAINTED or FILLED.
        index: the portrait's place in its series; also the seed of the edit's noise.
        photo: uint8, (R, R, 3).
        painted: the photo with its paint, as ``photo``; equal to it for a fill.
        mask: bool, (R, R); True = edit.
        labels: the portrait's regions, uint8 (R, R).
    """

    kind: str
    index: int
    photo: Photo
    painted: Photo
    mask: Mask
    labels: NDArray[np.uint8]


def painted_cases(series: int, *, resolution: int) -> Iterator[EditCase]:
    """Walk through a series, the kinds of PAINTED in turn; portraits that do not suit are skipped.

    A region's new color is that region's mean color in the next portrait that has it, so that a
    perfect edit looks like another portrait of the series.
    """
    donors: dict[str, NDArray[np.float64]] = {}
    made = 0
    for index in range(1_000_000):
        kind = PAINTED[made % len(PAINTED)]
        region = "skin" if kind == "hat" else kind
        portrait = generate_portrait(series, index, resolution=resolution)
        where = _region_mask(portrait, region)
        if where.mean() < LEAST_SHARE[region]:
            continue
        if kind == "hat":
            case = _hat(series, index, portrait)
        else:
            color = portrait.photo[where].mean(axis=0)
            donor, donors[kind] = donors.get(kind), color
            case = None if donor is None else _recolored(kind, index, portrait, donor)
        if case is not None:
            yield case
            made += 1


def filled_cases(series: int, *, resolution: int) -> Iterator[EditCase]:
    """Walk through a series, the kinds of FILLED in turn; portraits without lips are skipped."""
    made = 0
    for index in range(1_000_000):
        portrait = generate_portrait(series, index, resolution=resolution)
        if (portrait.labels == region_id("lip")).mean() < LEAST_SHARE["lip"]:
            continue
        kind = FILLED[made % len(FILLED)]
        if kind == "blob":
            mask = blob_mask(portrait.labels, seed=index)
        else:
            mask = (mouth_mask if kind == "mouth" else scratch_mask)(portrait.labels)
        yield EditCase(kind, index, portrait.photo, portrait.photo, mask, portrait.labels)
        made += 1


def _recolored(
    kind: str, index: int, portrait: Portrait, donor: NDArray[np.float64]
) -> EditCase | None:
    mask = _region_mask(portrait, kind)
    if np.abs(portrait.photo[mask].mean(axis=0) - donor).max() < 24.0:
        return None  # Too like the color it has: nothing to see.
    red, green, blue = (int(channel) for channel in donor.round())
    painted = recolor(portrait.photo, mask, (red, green, blue))
    return EditCase(kind, index, portrait.photo, painted, mask, portrait.labels)


def _region_mask(portrait: Portrait, kind: str) -> Mask:
    mask: Mask = np.isin(portrait.labels, [region_id(name) for name in REGIONS[kind]])
    return mask


def _hat(series: int, index: int, portrait: Portrait) -> EditCase | None:
    """A hat over bare or short hair, in a color that depends on the portrait."""
    if (portrait.labels == region_id("hat")).any():
        return None
    labels = generate_portrait(series, index, resolution=STROKE_RESOLUTION).labels
    if not (labels == region_id("brow")).any():
        return None
    color = ((196, 52, 46), (52, 88, 168), (60, 120, 72), (190, 150, 60))[index % 4]
    strokes = _shrunk(beanie_strokes(labels, color=color, seed=index), portrait.labels.shape[0])
    painted = paint_over(portrait.photo, strokes)
    mask: Mask = strokes[..., 3] > 0
    return EditCase("hat", index, portrait.photo, painted, mask, portrait.labels)


def _shrunk(strokes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Average blocks of strokes, colors weighted by alpha; uint8 (H, W, 4) -> (side, side, 4)."""
    factor = strokes.shape[0] // side
    if factor <= 1:
        return strokes
    blocks = strokes.reshape(side, factor, side, factor, 4).astype(np.float64)
    alpha = blocks[..., 3:].sum(axis=(1, 3))
    color = (blocks[..., :3] * blocks[..., 3:]).sum(axis=(1, 3)) / np.maximum(alpha, 1.0)
    small: NDArray[np.uint8] = np.rint(np.dstack([color, alpha / factor**2])).astype(np.uint8)
    return small
