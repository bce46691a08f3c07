"""One recipe's edit by both bundles, beside one another."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from neural_photo_editor.api.errors import RequestError
from neural_photo_editor.evaluation.gate_replay import ReplayedEdit
from neural_photo_editor.evaluation.pictures import Picture, enlarge, save_grid

SIDE_PX = 192
GAIN = 4
"""Differences are shown this many times as large."""

MISSING = (224, 224, 224)
ERASED = (160, 160, 160)


def save_comparison(edits: Mapping[str, ReplayedEdit | RequestError], path: Path) -> None:
    """Write photo, painted, current, candidate and difference as a row.

    What is to be filled is gray in the painted picture; a refused edit is gray. The difference is
    that of candidate and current, or of candidate and photo in a first promotion, 4 times as large.

    Args:
        edits: "candidate" and, where there is one, "current".
        path: the PNG.
    """
    made = {side: edit for side, edit in edits.items() if isinstance(edit, ReplayedEdit)}
    if not made:
        return
    known = next(iter(made.values()))
    painted = known.painted
    if painted is None:
        painted = known.photo.copy()
        painted[known.mask] = ERASED
    absent = np.full_like(known.photo, MISSING)
    results = {side: made[side].result if side in made else absent for side in edits}
    before = results.get("current", known.photo)
    changed = np.abs(results["candidate"].astype(np.int16) - before.astype(np.int16))
    difference = (changed * GAIN).clip(0, 255).astype(np.uint8)
    columns = {"photo": known.photo, "painted": painted}
    columns |= {side: results[side] for side in ("current", "candidate") if side in results}
    columns[f"difference x {GAIN}"] = difference
    save_grid([[_fitted(picture) for picture in columns.values()]], path, headers=list(columns))


def _fitted(picture: Picture) -> Picture:
    """Shrink a picture to SIDE_PX, or repeat its pixels up to about that."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return enlarge(np.asarray(image), SIDE_PX)
